package pathwalk

import (
	"os/user"
	"strconv"
)

// UserName returns the name of a user, or the user ID if there is no name.
func UserName(uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(number); err == nil {
		return u.Username
	}
	return number
}

// GroupName returns the name of a group, or the group ID if there is no name.
func GroupName(gid uint32) string {
	number := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(number); err == nil {
		return g.Name
	}
	return number
}
