package events

// For the tests of the contract, which live outside the package because they
// use its test servers.
var EncodeData = encodeData
