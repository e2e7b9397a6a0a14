// Package passkey makes the options of WebAuthn ceremonies and verifies their responses (Web
// Authentication Level 2, https://www.w3.org/TR/webauthn-2/).
//
// # Guarantees
//
// A response is accepted only for the relying party, the origin and the challenge that it is
// verified for, and only if the authenticator has verified the user, for example by a PIN or a
// fingerprint. A response from a page in a frame of another site is refused.
//
// Attestation is neither requested nor verified: any authenticator is accepted, and attestation
// would prove only its model. The model (AAGUID) is unverified.
//
// # How it works
//
// The package parses and verifies with github.com/go-webauthn/webauthn/protocol (docs/decisions/0046), and
// adds checks that it leaves to its callers: the ID must be that of the credential, the origin must be exactly
// ours, keys must be of the algorithms that were asked for, and a signature counter must increase.
//
// # What it is not
//
// It does not know accounts, and stores nothing. Callers must make sure that a challenge is new and used once.
package passkey

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"unicode/utf8"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"

	"dialtone/internal/fault"
)

// Party is a relying party: the site that passkeys are for.
type Party struct {
	// ID is its host name, without a port. A passkey works only for this ID.
	ID string
	// Origin is the scheme, host and port of its pages.
	Origin string
	// Name is shown to people by some authenticators.
	Name string
}

// User is the account that a new passkey is for.
type User struct {
	// Handle identifies the account. An authenticator returns it with each response.
	Handle []byte
	// Name and DisplayName are shown to people who choose among their passkeys.
	Name, DisplayName string
}

const (
	// MaxID is the maximum length of a credential ID, in bytes.
	MaxID = 1023
	// timeout is how long a browser waits for the person, in milliseconds. It is a little less than the
	// life of a challenge.
	timeout = 280_000
)

// algorithms are the algorithms of keys, best first.
var algorithms = []protocol.CredentialParameter{
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgEdDSA},
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgES256},
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgRS256},
}

// Errors of parsing and verifying. They do not tell which check failed.
var (
	// ErrResponse means that a response is malformed, or not for this relying party and challenge.
	ErrResponse = fault.Field("response", "send the response of the authenticator to the newest options, as JSON")
	// ErrCloned means that a signature counter did not increase. Two authenticators may have the key.
	ErrCloned = &fault.Error{
		Kind: fault.Unauthorized, Rule: "passkey_counter",
		Message: "the passkey's counter did not increase, so there may be a copy of it; " +
			"remove the passkey and add it again",
	}
)

// CreationOptions returns the options for navigator.credentials.create as JSON. Authenticators
// that already have one of the known credentials refuse.
func (p Party) CreationOptions(challenge []byte, u User, known []Credential) ([]byte, error) {
	o := protocol.PublicKeyCredentialCreationOptions{
		RelyingParty: protocol.RelyingPartyEntity{
			CredentialEntity: protocol.CredentialEntity{Name: p.Name}, ID: p.ID,
		},
		User: protocol.UserEntity{
			CredentialEntity: protocol.CredentialEntity{Name: u.Name}, DisplayName: u.DisplayName,
			ID: protocol.URLEncodedBase64(u.Handle),
		},
		Challenge:  challenge,
		Parameters: algorithms,
		Timeout:    timeout,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			RequireResidentKey: protocol.ResidentKeyRequired(),
			ResidentKey:        protocol.ResidentKeyRequirementRequired,
			UserVerification:   protocol.VerificationRequired,
		},
		Attestation: protocol.PreferNoAttestation,
	}
	for _, c := range known {
		d := protocol.CredentialDescriptor{Type: protocol.PublicKeyCredentialType, CredentialID: c.ID}
		for _, t := range c.Transports {
			d.Transport = append(d.Transport, protocol.AuthenticatorTransport(t))
		}
		o.CredentialExcludeList = append(o.CredentialExcludeList, d)
	}
	return json.Marshal(o)
}

// RequestOptions returns the options for navigator.credentials.get as JSON. They name no
// credential: the person chooses among the authenticator's credentials for the party.
func (p Party) RequestOptions(challenge []byte) ([]byte, error) {
	return json.Marshal(protocol.PublicKeyCredentialRequestOptions{
		Challenge: challenge, Timeout: timeout, RelyingPartyID: p.ID, UserVerification: protocol.VerificationRequired,
	})
}

// Creation is the response of an authenticator that has made a passkey.
type Creation struct {
	data *protocol.ParsedCredentialCreationData
}

// ParseCreation reads a PublicKeyCredential as JSON. It fails with ErrResponse.
func ParseCreation(response string) (Creation, error) {
	data, err := protocol.ParseCredentialCreationResponseBytes([]byte(response))
	if err != nil || !sameID(data.ID, data.RawID) ||
		!bytes.Equal(data.RawID, data.Response.AttestationObject.AuthData.AttData.CredentialID) {
		return Creation{}, ErrResponse
	}
	return Creation{data}, nil
}

// Challenge returns the challenge that the response claims to be for, as unpadded base64url.
func (c Creation) Challenge() string { return c.data.Response.CollectedClientData.Challenge }

// Verify returns the credential of a response to the challenge that it names. It fails with ErrResponse.
func (c Creation) Verify(p Party) (Credential, error) {
	d := c.data.Response.AttestationObject.AuthData
	if !p.madeHere(c.data.Response.CollectedClientData, protocol.CreateCeremony) || !p.verified(d) {
		return Credential{}, ErrResponse
	}
	made := Credential{ID: d.AttData.CredentialID, Key: d.AttData.CredentialPublicKey, AAGUID: d.AttData.AAGUID}
	made.setState(d)
	if !soundKey(made.Key) {
		return Credential{}, ErrResponse
	}
	for _, t := range c.data.Response.Transports {
		if knownTransport(t) && !slices.Contains(made.Transports, string(t)) {
			made.Transports = append(made.Transports, string(t))
		}
	}
	return made, nil
}

// Assertion is the response of an authenticator that has used a passkey.
type Assertion struct {
	data *protocol.ParsedCredentialAssertionData
}

// ParseAssertion reads a PublicKeyCredential as JSON. It fails with ErrResponse.
func ParseAssertion(response string) (Assertion, error) {
	data, err := protocol.ParseCredentialRequestResponseBytes([]byte(response))
	if err != nil || !sameID(data.ID, data.RawID) || len(data.Response.UserHandle) == 0 ||
		data.Response.AuthenticatorData.Flags.HasAttestedCredentialData() {
		return Assertion{}, ErrResponse
	}
	return Assertion{data}, nil
}

// Challenge returns the challenge that the response claims to be for, as unpadded base64url.
func (a Assertion) Challenge() string { return a.data.Response.CollectedClientData.Challenge }

// ID returns the ID of the credential.
func (a Assertion) ID() []byte { return a.data.RawID }

// Handle returns the user handle of the account that the passkey was made for.
func (a Assertion) Handle() []byte { return a.data.Response.UserHandle }

// Verify returns the credential with its new state. It fails with ErrResponse, which includes
// wrong signatures, and with ErrCloned. The backup eligibility flag can change: some providers
// began to synchronize passkeys that they had created without it.
func (a Assertion) Verify(p Party, c Credential) (Credential, error) {
	r := a.data.Response
	if !bytes.Equal(a.data.RawID, c.ID) || !p.madeHere(r.CollectedClientData, protocol.AssertCeremony) ||
		!p.verified(r.AuthenticatorData) {
		return c, ErrResponse
	}
	if err := a.data.Verify(r.CollectedClientData.Challenge, p.ID, []string{p.Origin}, nil,
		protocol.TopOriginIgnoreVerificationMode, "", true, true, c.Key); err != nil {
		return c, ErrResponse
	}
	before := c.Counter
	c.setState(r.AuthenticatorData)
	if (before > 0 || c.Counter > 0) && c.Counter <= before {
		return c, ErrCloned
	}
	return c, nil
}

// sameID reports whether the text of an ID matches its bytes, and their length is permitted.
func sameID(text string, raw []byte) bool {
	return len(raw) > 0 && len(raw) <= MaxID && text == base64.RawURLEncoding.EncodeToString(raw)
}

// madeHere reports whether a browser made the response for a page of ours.
func (p Party) madeHere(c protocol.CollectedClientData, ceremony protocol.CeremonyType) bool {
	return c.Origin == p.Origin && !c.CrossOrigin && c.TopOrigin == "" && c.Verify(c.Challenge, ceremony,
		[]string{p.Origin}, nil, protocol.TopOriginIgnoreVerificationMode) == nil
}

// verified reports whether an authenticator has verified the user for this party, according to its response.
func (p Party) verified(d protocol.AuthenticatorData) bool {
	return d.Verify(hashOf(p.ID), nil, true, true) == nil && (d.Flags.HasBackupEligible() || !d.Flags.HasBackupState())
}

// Credential is the stored data of a passkey.
type Credential struct {
	ID []byte `json:"-"`
	// Key is the public key in COSE form.
	Key []byte `json:"key"`
	// Counter is the signature counter. It is zero if the authenticator has none.
	Counter uint32 `json:"counter,omitempty"`
	// BackupEligible means that the passkey can be synchronized to other devices. BackedUp
	// means that it currently is.
	BackupEligible bool `json:"backup_eligible,omitempty"`
	BackedUp       bool `json:"backed_up,omitempty"`
	// AAGUID is the kind of authenticator, or zero.
	AAGUID []byte `json:"aaguid,omitempty"`
	// Transports are the ways in which browsers reach the authenticator.
	Transports []string `json:"transports,omitempty"`
}

func (c *Credential) setState(d protocol.AuthenticatorData) {
	c.Counter = d.Counter
	c.BackupEligible, c.BackedUp = d.Flags.HasBackupEligible(), d.Flags.HasBackupState()
}

// Equal reports whether two credentials are the same, in the same state.
func (c Credential) Equal(d Credential) bool {
	return bytes.Equal(c.ID, d.ID) && bytes.Equal(c.Marshal(), d.Marshal())
}

// Marshal returns the credential without its ID.
func (c Credential) Marshal() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic("passkey: a credential has no values that JSON lacks: " + err.Error())
	}
	return b
}

// Unmarshal parses the result of Marshal.
func Unmarshal(id, b []byte) (c Credential, err error) {
	err = json.Unmarshal(b, &c)
	c.ID = id
	return c, err
}

// knownTransport reports whether a transport is a word that can be stored. It is not compared
// with a list, since new transports may be defined.
func knownTransport(t protocol.AuthenticatorTransport) bool {
	return len(t) > 0 && len(t) <= 20 && utf8.ValidString(string(t)) &&
		!slices.ContainsFunc([]byte(t), func(b byte) bool { return (b < 'a' || b > 'z') && b != '-' })
}
