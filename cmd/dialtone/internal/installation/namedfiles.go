package installation

import "dialtone/internal/config"

// ConfiguredFile is a file or directory that the configuration names, and the key that names it.
type ConfiguredFile struct{ Key, Path string }

// ConfiguredFiles returns the files that the configuration names, without the data directory and Dialtone's keys.
func ConfiguredFiles(c config.Config) (list []ConfiguredFile) {
	add := func(key, path string) {
		if path != "" {
			list = append(list, ConfiguredFile{key, path})
		}
	}
	add("mail.templates_dir", c.Mail.TemplatesDir)
	add("mail.relay_password_file", c.Mail.RelayPasswordFile)
	add("mail.relay_ca_file", c.Mail.RelayCAFile)
	add("http.security_txt", c.HTTP.SecurityTxt)
	for i := range c.TLS.Cert {
		add("tls.cert", string(c.TLS.Cert[i]))
		add("tls.key", string(c.TLS.Key[i]))
	}
	add("tls.acme_ca_file", c.TLS.CAFile)
	add("ops.tls_cert", c.Ops.TLSCert)
	add("ops.tls_key", c.Ops.TLSKey)
	add("ops.tls_client_ca", c.Ops.TLSClientCA)
	add("trace.header_file", c.Trace.HeaderFile)
	for _, f := range c.DatabaseFiles(nil) {
		add(f.Name, f.Path)
	}
	return list
}
