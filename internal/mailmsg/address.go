package mailmsg

import "strings"

// Domain is the part of an e-mail address after its last @, or the whole text if it has none.
func Domain(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }
