// Package onebox runs all services in one process and works with them as a client would.
package onebox
