package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	"dialtone/internal/fault"
)

// healthTimeout limits the time of a request. The checks of the server end within three seconds.
const healthTimeout = 5 * time.Second

// errOtherCertificate means that the server has another certificate than the one in ops.tls_cert.
var errOtherCertificate = errors.New("another certificate")

// Readiness is an answer of /readyz.
type Readiness struct {
	Checks []struct {
		Name, Error, Warning string
		OK                   bool
	}
	Server string // installation.ServerID of the server; empty from a server of an earlier version
	Ready  bool   `json:"-"` // from the status of the answer
}

// errOtherServer means that the server of another data directory answers.
var errOtherServer = errors.New("another server of Dialtone")

// ErrClientCertificate means that the server requires a client certificate, and none was given.
var ErrClientCertificate = fault.New(fault.Invalid, "the server requires a client certificate (ops.tls_client_ca); "+
	"give --client-cert and --client-key")

// errNoAnswer means that no server answers.
var errNoAnswer = errors.New("the server does not answer")

// QueryReadiness requests /readyz of the server on this machine. cert and key are the files of a client certificate, if
// the server requires one (ErrClientCertificate). It fails with errNoAnswer if no server answers, and with
// errOtherServer if the server of another data directory does.
func QueryReadiness(ctx context.Context, conf config.Config, cert, key string) (state Readiness, err error) {
	ops := conf.Ops
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	address := installation.DialAddress(ops.Listen)
	scheme := "http"
	// Do not use a proxy that the environment names: the server is on this machine.
	transport := &http.Transport{DisableKeepAlives: true}
	if ops.TLSCert != "" {
		scheme = "https"
		if transport.TLSClientConfig, err = tlsConfig(ops, cert, key); err != nil {
			return state, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+"/readyz", nil)
	if err != nil {
		return state, err
	}
	client := http.Client{Transport: transport}
	answer, err := client.Do(request)
	if refused, ok := errors.AsType[*net.OpError](err); ok && refused.Op == "remote error" {
		return state, fmt.Errorf("the server at %s refuses the connection (%w); --client-cert needs a certificate of "+
			"an authority in ops.tls_client_ca", address, refused.Err)
	} else if errors.Is(err, errOtherCertificate) {
		return state, fmt.Errorf("the server at %s is not trusted: its certificate is not the one in %s", address,
			ops.TLSCert)
	}
	if err != nil {
		return state, fmt.Errorf("%w at %s: %w", errNoAnswer, address, err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(http.MaxBytesReader(nil, answer.Body, 1<<20)).Decode(&state); err != nil ||
		len(state.Checks) == 0 {
		return state, fmt.Errorf("what listens on %s is not Dialtone; set ops.listen as the server has it", address)
	}
	if own := installation.ServerID(datadir.Dir(conf.Data)); own != "" && state.Server != "" && own != state.Server {
		return state, fmt.Errorf("what listens on %s is %w, and not that of %s; start that one, with another "+
			"ops.listen if both run on this machine, or set data and ops.listen as the server has them", address,
			errOtherServer, conf.Data)
	}
	state.Ready = answer.StatusCode == http.StatusOK
	return state, nil
}

// tlsConfig returns settings that accept only the certificate in ops.tls_cert, whatever names it is for: the address is
// one of this machine.
func tlsConfig(ops config.Ops, cert, key string) (*tls.Config, error) {
	text, err := runas.ReadNamed(ops.TLSCert)
	if err != nil {
		return nil, err
	}
	own, _ := pem.Decode(text)
	if own == nil {
		return nil, fault.New(fault.Invalid, "%s contains no certificate; correct ops.tls_cert", ops.TLSCert)
	}
	t := &tls.Config{
		InsecureSkipVerify: true, // VerifyConnection is stricter
		VerifyConnection: func(s tls.ConnectionState) error {
			if !bytes.Equal(s.PeerCertificates[0].Raw, own.Bytes) {
				return errOtherCertificate
			}
			return nil
		},
	}
	switch {
	case cert != "" && key != "":
		client, err := tls.LoadX509KeyPair(cert, key)
		t.Certificates = []tls.Certificate{client}
		return t, err
	case cert != "" || key != "" || ops.TLSClientCA != "":
		return nil, ErrClientCertificate
	}
	return t, nil
}
