package inputs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/sebs-suite/sebs/internal/errs"
)

// maxLineBytes bounds one message of the driver; payloads and items are far below it.
const maxLineBytes = 64 << 20

// command is the first line that the driver gets.
type command struct {
	Task        string          `json:"task"`
	InputFile   string          `json:"input_file"`
	ExchangeDir string          `json:"exchange_dir"`
	ProjectRoot string          `json:"project_root"`
	Packages    []string        `json:"packages"`
	DataDir     *string         `json:"data_dir"`
	Size        string          `json:"size,omitempty"`
	Payload     json.RawMessage `json:"payload,omitempty"`
	Output      json.RawMessage `json:"output,omitempty"`
	Language    string          `json:"language,omitempty"`
	Storage     bool            `json:"storage"`
}

// message is a line that the driver writes: a call, the outcome or a failure.
type message struct {
	Call string `json:"call"`
	// declare
	Buckets *[2]int                       `json:"buckets"`
	Tables  map[string]map[string]*string `json:"tables"`
	// upload, download
	Prefix int    `json:"prefix"`
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	File   string `json:"file"`
	// write_item
	Benchmark    string          `json:"benchmark"`
	Table        string          `json:"table"`
	Data         json.RawMessage `json:"data"`
	PrimaryKey   *[2]string      `json:"primary_key"`
	SecondaryKey *[2]string      `json:"secondary_key"`

	Outcome       *outcome `json:"outcome"`
	Error         string   `json:"error"`
	Traceback     string   `json:"traceback"`
	MissingModule string   `json:"missing_module"`
}

type outcome struct {
	Payload json.RawMessage `json:"payload"`
	Verdict *string         `json:"verdict"`
}

// reply answers a call.
type reply struct {
	Bucket         string   `json:"bucket,omitempty"`
	InputPrefixes  []string `json:"input_prefixes,omitempty"`
	OutputPrefixes []string `json:"output_prefixes,omitempty"`
	Error          string   `json:"error,omitempty"`
}

// readMessage reads one line.
func readMessage(r *bufio.Reader) (message, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLineBytes {
			return message{}, errs.InvalidArgument(ReasonFailed, "input.py sends more than %d MB at once; make the payload smaller", maxLineBytes>>20)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return message{}, err
		}
	}
	return parseMessage(line)
}

// parseMessage reads a message and checks that it is exactly one of the kinds there are.
func parseMessage(line []byte) (message, error) {
	var m message
	if err := json.Unmarshal(bytes.TrimSpace(line), &m); err != nil {
		return message{}, fmt.Errorf("read message of the driver: %w", err)
	}
	kinds := 0
	for _, present := range []bool{m.Call != "", m.Outcome != nil, m.Error != ""} {
		if present {
			kinds++
		}
	}
	if kinds != 1 {
		return message{}, errors.New("read message of the driver: it is neither a call nor an outcome nor a failure")
	}
	return m, nil
}

func writeLine(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}
