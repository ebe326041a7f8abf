package events

// For the tests of the contract, which live outside the package because they
// use its test servers.
var EncodeData = encodeData

// PutOffPerWorker is how many events with something put off a worker leaves behind.
const PutOffPerWorker = putOffPerWorker
