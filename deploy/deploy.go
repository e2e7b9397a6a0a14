// Package deploy embeds the examples in this directory that the program writes for operators.
package deploy

import _ "embed"

// The files, for the host phone.example.org.
var (
	//go:embed nginx/dialtone.conf
	Nginx string
	//go:embed kamailio/http.cfg
	Kamailio string
	//go:embed kamailio/tls.cfg
	KamailioTLS string
	//go:embed kamailio/dialtone-certificate.service
	CertificateService string
	//go:embed kamailio/dialtone-certificate.timer
	CertificateTimer string
	//go:embed systemd/low-ports.conf
	LowPorts string
	//go:embed systemd/dialtone.service
	Unit string
)
