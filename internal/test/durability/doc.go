// Package durability tests what must survive a crash: the account and the message of every signup
// that succeeded, whatever happens to the process, the machine or its disk.
//
// The store, a backup, the pickup directory and the relay's queue run together on a file system in
// memory, package crashfs. TestEveryPoint stops them before and after each operation,
// TestEveryFault makes each operation fail, TestCrashesDuringDelivery stops a server that sends
// messages to a relay, and TestSimulation runs years of random requests, faults and power cuts. A
// harness is the program without HTTP. A transcript records the requests of its clients and the
// answers to them. The tests compare the state of the harness with what the transcript demands.
//
// DIALTONE_SEEDS is the number of simulations, and DIALTONE_CHANCES that of random power cuts at every
// moment; make test-long raises both. With more power cuts than the default, the scenarios are also
// stopped at every moment, every operation fails in every way, followed by every power cut, and every
// write is torn at every sector. With the default, the tests take a random sample of each, evenly
// spread, and a different one in each run. DIALTONE_SEED repeats one simulation, or one sample.
//
// The package exports nothing. In cmd/dialtone, the same promise is tested on the built program,
// with kill -9 and real disks.
package durability
