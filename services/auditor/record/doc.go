// Package record is the core of the auditor: what a record says, how records are
// chained so that a change is found, and what becomes a record when a stream is
// read. It takes values and gives values: no clock, no file, no network.
package record
