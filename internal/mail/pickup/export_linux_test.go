package pickup

// LinkDescriptor and LinkByProc are the two ways to link an unnamed file.
var (
	LinkDescriptor = linkDescriptor
	LinkByProc     = linkByProc
)

// Syncfs is the system call behind Sync.
var Syncfs = &syncfs
