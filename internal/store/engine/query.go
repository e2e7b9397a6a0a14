package engine

import (
	"fmt"
	"strings"
)

// Count returns the number that a query selects.
func Count(q Querier, query string, args ...any) (n int64, err error) {
	return n, q.Row(query, args...).Scan(&n)
}

// Report calls report with each row of the queries. A row is one sentence.
func Report(q Querier, report func(string), queries ...string) error {
	for _, query := range queries {
		err := q.Each(func(row Scanner) error {
			var sentence string
			if err := row.Scan(&sentence); err != nil {
				return err
			}
			report(sentence)
			return nil
		}, query)
		if err != nil {
			return err
		}
	}
	return nil
}

// Placeholders returns n placeholders, starting with number from: "$1, $2".
func Placeholders(from, n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("$%d", from+i)
	}
	return strings.Join(list, ", ")
}
