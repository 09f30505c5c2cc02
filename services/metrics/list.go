package metrics

import (
	"context"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/metrics/results"
)

const (
	defaultPageSize = 100
	maxPageSize     = 10_000
	// maxPageBytes keeps a page below the size limit of messages; a record without its output takes about recordBytes.
	maxPageBytes = 12 << 20
	recordBytes  = 1 << 10
)

// list returns a page of a run's records.
func (s *service) list(ctx context.Context, in *metricsv1.ListInvocationsRequest) (*metricsv1.ListInvocationsResponse, error) {
	from, err := parsePageToken(in)
	if err != nil {
		return nil, err
	}
	size := int(in.GetPageSize())
	if size == 0 {
		size = defaultPageSize
	}
	size = min(size, maxPageSize)
	response := &metricsv1.ListInvocationsResponse{}
	bytes := 0
	err = s.reader.Scan(ctx, in.GetParent(), from, func(position int64, row *results.Row) (bool, error) {
		if !matches(in, row) {
			return true, nil
		}
		if len(response.Records) == size || (bytes > 0 && bytes+len(row.OutputJSON)+recordBytes > maxPageBytes) {
			response.NextPageToken = pageToken(in, position)
			return false, nil
		}
		bytes += len(row.OutputJSON) + recordBytes
		response.Records = append(response.Records, row.Record())
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}

func matches(in *metricsv1.ListInvocationsRequest, row *results.Row) bool {
	return (in.GetFunction() == "" || in.GetFunction() == row.Function) &&
		(in.GetPhase() == "" || in.GetPhase() == row.Phase) &&
		(in.ColdStart == nil || in.GetColdStart() == row.ColdStart) &&
		(in.Failure == nil || in.GetFailure() == row.Failure)
}

// filterHash tells whether a token belongs to the same question.
func filterHash(in *metricsv1.ListInvocationsRequest) uint32 {
	h := fnv.New32a()
	cold, failure := "-", "-"
	if in.ColdStart != nil {
		cold = strconv.FormatBool(in.GetColdStart())
	}
	if in.Failure != nil {
		failure = strconv.FormatBool(in.GetFailure())
	}
	_, _ = fmt.Fprintf(h, "%q %q %q %s %s", in.GetParent(), in.GetFunction(), in.GetPhase(), cold, failure)
	return h.Sum32()
}

func pageToken(in *metricsv1.ListInvocationsRequest, position int64) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d.%08x", position, filterHash(in)))
}

func parsePageToken(in *metricsv1.ListInvocationsRequest) (int64, error) {
	if in.GetPageToken() == "" {
		return 0, nil
	}
	wrong := errs.Fields(errs.Field("page_token", "is not a token of this list; start again without one"))
	raw, err := base64.RawURLEncoding.DecodeString(in.GetPageToken())
	if err != nil {
		return 0, wrong
	}
	position, hash, ok := strings.Cut(string(raw), ".")
	from, err := strconv.ParseInt(position, 10, 64)
	if !ok || err != nil || from < 0 || hash != fmt.Sprintf("%08x", filterHash(in)) {
		return 0, wrong
	}
	return from, nil
}
