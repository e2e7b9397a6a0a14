package passkey

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"math/big"

	"github.com/go-webauthn/webauthn/protocol/webauthncose"
)

func hashOf(id string) []byte {
	sum := sha256.Sum256([]byte(id))
	return sum[:]
}

// Bounds of RSA keys, in bits. Longer keys only cost time.
const (
	minRSA = 2048
	maxRSA = 4096
)

// soundKey reports whether a key belongs to one of the algorithms that we request, with its usual parameters.
func soundKey(key []byte) bool {
	parsed, err := webauthncose.ParsePublicKey(key)
	if err != nil {
		return false
	}
	switch k := parsed.(type) {
	case webauthncose.OKPPublicKeyData:
		// The library does not parse the curve. Ed25519 is the algorithm's only curve with keys of this length.
		return k.Algorithm == int64(webauthncose.AlgEdDSA) && len(k.XCoord) == ed25519.PublicKeySize
	case webauthncose.EC2PublicKeyData:
		return k.Algorithm == int64(webauthncose.AlgES256) && k.Curve == int64(webauthncose.P256) &&
			len(k.XCoord) == 32 && len(k.YCoord) == 32 && onCurve(k.XCoord, k.YCoord)
	case webauthncose.RSAPublicKeyData:
		bits := new(big.Int).SetBytes(k.Modulus).BitLen()
		return k.Algorithm == int64(webauthncose.AlgRS256) && bits >= minRSA && bits <= maxRSA &&
			len(k.Exponent) <= 4 && new(big.Int).SetBytes(k.Exponent).Int64() == 65537
	}
	return false
}

func onCurve(x, y []byte) bool {
	point := append(append([]byte{4}, x...), y...)
	_, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	return err == nil
}
