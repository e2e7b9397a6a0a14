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
// moment; make test-long raises both. More power cuts than the default also stop the scenarios at every moment,
// make every operation fail in every way, with every power cut after it, and tear every write at every sector.
// Without them the tests take some of each, evenly spread and chosen at random, and others in each run.
// DIALTONE_SEED repeats one simulation, or one choice.
//
// The package exports nothing. In cmd/dialtone, the same promise is tested on the built program,
// with kill -9 and real disks.
package durability
