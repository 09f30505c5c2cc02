// Program function is a Lambda function with its own entry point: it answers its event and the environment variable
// VARIABLE.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		if err := serve(base); err != nil {
			log.Fatal(err)
		}
	}
}

func serve(base string) error {
	next, err := http.Get(base + "next")
	if err != nil {
		return err
	}
	event, err := io.ReadAll(next.Body)
	if err != nil {
		return err
	}
	if err := next.Body.Close(); err != nil {
		return err
	}
	answer, err := json.Marshal(map[string]any{"event": json.RawMessage(event), "variable": os.Getenv("VARIABLE")})
	if err != nil {
		return err
	}
	sent, err := http.Post(base+next.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response", "application/json", bytes.NewReader(answer))
	if err != nil {
		return err
	}
	return sent.Body.Close()
}
