package awsstand

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const algorithm = "AWS4-HMAC-SHA256"

// signature is what a request says about its sender, in the Authorization header or, presigned, in its query.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
type signature struct {
	accessKey, day, region, service string
	signed                          []string // names of headers, lower case
	value                           string
	time                            string
	token                           string
	presigned                       bool
}

// parseSignature reads a signature; false means that there is none, or none of this version.
func parseSignature(r *http.Request) (signature, bool) {
	var (
		out             signature
		credential, all string
	)
	if text, ok := strings.CutPrefix(r.Header.Get("Authorization"), algorithm); ok {
		for part := range strings.SplitSeq(text, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			switch name {
			case "Credential":
				credential = value
			case "SignedHeaders":
				all = value
			case "Signature":
				out.value = value
			}
		}
		out.time, out.token = r.Header.Get("X-Amz-Date"), r.Header.Get("X-Amz-Security-Token")
	} else if q := r.URL.Query(); q.Get("X-Amz-Algorithm") == algorithm {
		credential, all, out.value = q.Get("X-Amz-Credential"), q.Get("X-Amz-SignedHeaders"), q.Get("X-Amz-Signature")
		out.time, out.token, out.presigned = q.Get("X-Amz-Date"), q.Get("X-Amz-Security-Token"), true
	}
	scope := strings.Split(credential, "/")
	if len(scope) != 5 || scope[4] != "aws4_request" || out.value == "" {
		return signature{}, false
	}
	out.accessKey, out.day, out.region, out.service = scope[0], scope[1], scope[2], scope[3]
	out.signed = strings.Split(all, ";")
	return out, true
}

// matches computes the signature of the request with a secret key and compares. The body may be nil where the request
// tells its hash.
func (s signature) matches(r *http.Request, secret string, body []byte) bool {
	payload := r.Header.Get("X-Amz-Content-Sha256")
	switch {
	case payload != "":
	case s.presigned:
		payload = "UNSIGNED-PAYLOAD"
	default:
		payload = digest(body)
	}
	canonical := strings.Join([]string{
		r.Method, s.path(r), s.query(r), s.headers(r), strings.Join(s.signed, ";"), payload,
	}, "\n")
	scope := strings.Join([]string{s.day, s.region, s.service, "aws4_request"}, "/")
	text := strings.Join([]string{algorithm, s.time, scope, digest([]byte(canonical))}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{s.day, s.region, s.service, "aws4_request", text} {
		key = seal(key, part)
	}
	return hmac.Equal([]byte(hex.EncodeToString(key)), []byte(s.value))
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func seal(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// path is the path as sent; all services but S3 encode it once more.
func (s signature) path(r *http.Request) string {
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	if s.service == "s3" {
		return path
	}
	return escape(path, true)
}

func (s signature) query(r *http.Request) string {
	var pairs []string
	for name, values := range r.URL.Query() {
		if s.presigned && name == "X-Amz-Signature" {
			continue
		}
		for _, v := range values {
			pairs = append(pairs, escape(name, false)+"="+escape(v, false))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

func (s signature) headers(r *http.Request) string {
	var b strings.Builder
	for _, name := range s.signed {
		var value string
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		default:
			value = strings.Join(r.Header.Values(name), ",")
		}
		b.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	return b.String()
}

// escape encodes everything but the unreserved characters, and the slash where it parts names.
func escape(text string, slash bool) string {
	out := url.QueryEscape(text)
	out = strings.ReplaceAll(out, "+", "%20")
	out = strings.ReplaceAll(out, "%7E", "~")
	if slash {
		out = strings.ReplaceAll(out, "%2F", "/")
	}
	return out
}
