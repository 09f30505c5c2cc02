// Package pagetoken makes the opaque tokens with which a client asks for the next page of a list.
//
// A token holds the position after the last item and a hash of the request's filter, under a MAC: a token of another
// request, of another list, or made by hand is refused with INVALID_ARGUMENT.
package pagetoken

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"github.com/sebs-suite/sebs/internal/errs"
)

// KeyBytes is the size of a key.
const KeyBytes = 32

const (
	macBytes    = 16
	filterBytes = 8
	// maxBytes bounds a token before anything is computed on it.
	maxBytes = 4096
)

// Codec makes and reads tokens. It is safe for concurrent use.
type Codec struct {
	key []byte
}

// New returns a codec with a key, which all replicas of a service share.
func New(key []byte) *Codec {
	return &Codec{key: append([]byte(nil), key...)}
}

// Encode returns the token for the items behind position. list names the list and filter everything else of the request
// that decides which items it has.
func (c *Codec) Encode(list string, filter []string, position string) string {
	body := append(digest(list, filter), position...)
	return base64.RawURLEncoding.EncodeToString(append(c.mac(list, body), body...))
}

// Decode returns the position that a token of the same list and filter holds; "" for an empty token, which asks for the
// first page.
func (c *Codec) Decode(list string, filter []string, token string) (position string, err error) {
	if token == "" {
		return "", nil
	}
	bad := errs.Fields(errs.Field("page_token", "is not one that this list returned; ask for the first page again"))
	if len(token) > maxBytes {
		return "", bad
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < macBytes+filterBytes {
		return "", bad
	}
	body := raw[macBytes:]
	if !hmac.Equal(raw[:macBytes], c.mac(list, body)) {
		return "", bad
	}
	if !hmac.Equal(body[:filterBytes], digest(list, filter)) {
		return "", errs.Fields(errs.Field("page_token", "belongs to a request with another filter; keep the filter while paging"))
	}
	return string(body[filterBytes:]), nil
}

func (c *Codec) mac(list string, body []byte) []byte {
	h := hmac.New(sha256.New, c.key)
	h.Write([]byte(list))
	h.Write([]byte{0})
	h.Write(body)
	return h.Sum(nil)[:macBytes]
}

// digest hashes the parts with their lengths, so that no two filters look alike.
func digest(list string, filter []string) []byte {
	h := sha256.New()
	for _, part := range append([]string{list}, filter...) {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write([]byte(part))
	}
	return h.Sum(nil)[:filterBytes]
}

// Size returns how many items a page has: the default for 0, at most the maximum; negative sizes are refused.
func Size(asked int32, byDefault, most int) (int, error) {
	switch {
	case asked < 0:
		return 0, errs.Fields(errs.Field("page_size", "is %d and must not be negative", asked))
	case asked == 0:
		return byDefault, nil
	}
	return min(int(asked), most), nil
}
