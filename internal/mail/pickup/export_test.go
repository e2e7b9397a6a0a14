package pickup

// System is the operating system's file system.
var System FileSystem = system{}

// UsesUnnamedFiles reports whether messages are staged in files without a name.
func (d *Dir) UsesUnnamedFiles() bool { return d.unnamedFiles() != nil }
