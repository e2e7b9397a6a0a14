package terminal

import "fmt"

// Counted returns a number and what it counts, such as "1 account" or "2 accounts".
func Counted[N int | int64](n N, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// Plural returns a number with one or many, such as "1 account waits" or "2 accounts wait".
func Plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
