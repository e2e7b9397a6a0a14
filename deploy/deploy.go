// Package deploy has the examples in this directory that the program gives to operators.
package deploy

import _ "embed"

// The files, for the host phone.example.org.
var (
	//go:embed nginx/dialtone.conf
	Nginx string
	//go:embed kamailio/http.cfg
	Kamailio string
	//go:embed systemd/dialtone.service
	Unit string
)
