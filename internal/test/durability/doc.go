// Package durability has the tests of what must survive a crash: that a signup which was answered
// is there, account and message, whatever happened to the process, the machine or its disk.
//
// The store, a backup, the pickup directory and the relay's queue run together on a file system in
// memory, package crashfs. TestEveryPoint stops them before and after each operation,
// TestEveryFault makes each operation fail, TestCrashesDuringDelivery does the first for messages
// on their way to a relay, and TestSimulation lives through years of random requests, faults and
// power cuts. A harness is the program without HTTP, and a transcript what its clients asked and
// were answered: the promise is checked by comparing what the harness has with the transcript.
//
// DIALTONE_SEEDS is the number of simulated lives and DIALTONE_CHANCES that of random power cuts at
// every moment; make test-long raises both. DIALTONE_SEED repeats one life.
//
// It has no code for other packages. The same promise is tested on the built program, with kill -9
// and real disks, in cmd/dialtone.
package durability
