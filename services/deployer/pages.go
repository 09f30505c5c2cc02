package deployer

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/sebs-suite/sebs/internal/errs"
)

// Sizes of a page.
const (
	defaultPageSize = 100
	maxPageSize     = 1000
)

// paginate returns the part of items, which are in the order of their names, that
// follows the token. The token holds the last name and a digest of the filter, so
// that it is refused when the filter changed.
func paginate[T any](items []T, name func(T) string, filter string, size int32, token string) (page []T, next string, err error) {
	if size < 0 {
		return nil, "", errs.Fields(errs.Field("page_size", "must not be negative, is %d", size))
	}
	if size == 0 {
		size = defaultPageSize
	}
	limit := int(min(size, maxPageSize))
	sum := sha256.Sum256([]byte(filter))
	mark := hex.EncodeToString(sum[:8])
	start := 0
	if token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		digest, after, ok := strings.Cut(string(raw), " ")
		if err != nil || !ok || digest != mark {
			return nil, "", errs.Fields(errs.Field("page_token", "is not a token of this listing; start without one"))
		}
		if start = slices.IndexFunc(items, func(item T) bool { return name(item) > after }); start < 0 {
			return nil, "", nil
		}
	}
	end := min(start+limit, len(items))
	if end < len(items) {
		next = base64.RawURLEncoding.EncodeToString([]byte(mark + " " + name(items[end-1])))
	}
	return items[start:end], next, nil
}
