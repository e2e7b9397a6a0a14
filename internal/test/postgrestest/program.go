package postgrestest

import "path/filepath"

// Program is the path of one of PostgreSQL's programs, such as pgbench.
func Program(name string) (string, error) {
	i, err := find()
	if err != nil {
		return "", err
	}
	return filepath.Join(i.bin, name), nil
}
