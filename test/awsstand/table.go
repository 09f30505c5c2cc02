package awsstand

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
)

// tablesVariable names the address of DynamoDB Local; without it moto keeps the tables.
const tablesVariable = "SEBS_TEST_DYNAMODB_ENDPOINT"

// credentialKey is the access key in a signature.
var credentialKey = regexp.MustCompile(`Credential=[^/]+/`)

// newTables forwards to DynamoDB Local. That keeps tables apart by access key and checks no signature, so all keys of the
// stand become one, which no other stand has.
func newTables(key string, transport http.RoundTripper) http.Handler {
	address := os.Getenv(tablesVariable)
	if address == "" {
		return nil
	}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: address})
			header := r.Out.Header
			header.Set("Authorization", credentialKey.ReplaceAllString(header.Get("Authorization"), "Credential="+key+"/"))
			header.Del("X-Amz-Security-Token")
		},
		Transport: transport,
	}
}
