package call

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// Objects is what storage triggers need of an object store.
type Objects interface {
	// Put stores an object. The bucket is a resource name.
	Put(ctx context.Context, bucket, key, contentType string, content []byte) error
	// Get reads an object of at most limit bytes; NOT_FOUND when there is none, and OUT_OF_RANGE when it is larger.
	Get(ctx context.Context, bucket, key string, limit int64) ([]byte, error)
	// Exists tells whether there is an object.
	Exists(ctx context.Context, bucket, key string) (bool, error)
	// Delete removes an object; one that does not exist is no error.
	Delete(ctx context.Context, bucket, key string) error
}

// Storage calls functions by an object that it puts into the bucket which a trigger watches, and waits for the object that
// the function leaves as its answer. The client's time runs from the end of the upload to the moment the answer is seen.
type Storage struct {
	objects   Objects
	maxAnswer int64
}

// Pauses between two looks for the answer: short ones first, since the figure is no finer than the pause.
const (
	firstLook = 2 * time.Millisecond
	lastLook  = 50 * time.Millisecond
	// tidyTimeout bounds the removal of the two objects of a call.
	tidyTimeout = 5 * time.Second
)

// NewStorage returns a caller over storage triggers. An answer may have maxAnswerBytes; 0 means [DefaultMaxAnswerBytes].
func NewStorage(objects Objects, maxAnswerBytes int64) *Storage {
	if maxAnswerBytes <= 0 {
		maxAnswerBytes = DefaultMaxAnswerBytes
	}
	return &Storage{objects: objects, maxAnswer: maxAnswerBytes}
}

// Names of the attributes of a storage trigger.
const (
	attributeBucket  = "bucket"
	attributePrefix  = "prefix"
	attributeResults = "results_prefix"
)

// Call uploads the payload as `<prefix>/<id>.json` and waits for `<results prefix>/<id>.json`.
func (s *Storage) Call(ctx context.Context, target Target, input Input) Outcome {
	ctx, cancel := context.WithTimeout(ctx, input.Timeout)
	defer cancel()
	outcome := Outcome{Begin: time.Now()}
	attributes := target.Trigger.GetAttributes()
	if attributes[attributeBucket] == "" || attributes[attributeResults] == "" {
		return outcome.fail(typev1.ErrorClass_ERROR_CLASS_PLATFORM,
			"the storage trigger's record lacks its bucket or its results prefix; create the trigger again")
	}
	bucket := fmt.Sprintf("platforms/%s/deployments/%s/buckets/%s", target.Platform, target.Deployment, attributes[attributeBucket])
	event := objectKey(attributes[attributePrefix], input.ID)
	answer := objectKey(attributes[attributeResults], input.ID)
	defer s.tidy(ctx, bucket, event, answer)
	if err := s.objects.Put(ctx, bucket, event, "application/json", input.Payload); err != nil {
		class, message := apiFailure(ctx, err, target, input)
		return outcome.fail(class, fmt.Sprintf("upload the event %s: %s", event, message))
	}
	outcome.Begin = time.Now()
	if err := s.await(ctx, bucket, answer); err != nil {
		outcome.End = time.Now()
		class, message := apiFailure(ctx, err, target, input)
		return outcome.fail(class, fmt.Sprintf("wait for the answer %s: %s", answer, message))
	}
	outcome.End = time.Now()
	content, err := s.objects.Get(ctx, bucket, answer, s.maxAnswer)
	if errs.Is(err, codes.OutOfRange) {
		return outcome.fail(typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE, fmt.Sprintf(
			"the answer %s is larger than %d bytes; let the function answer less or raise invoker.max_answer_bytes", answer, s.maxAnswer))
	}
	if err != nil {
		class, message := apiFailure(ctx, err, target, input)
		return outcome.fail(class, fmt.Sprintf("read the answer %s: %s", answer, message))
	}
	outcome.Answer = content
	return outcome
}

func objectKey(prefix, id string) string {
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
	}
	return prefix + id + ".json"
}

// await returns when the object is there.
func (s *Storage) await(ctx context.Context, bucket, key string) error {
	for pause := firstLook; ; pause = min(pause*3/2, lastLook) {
		there, err := s.objects.Exists(ctx, bucket, key)
		if err != nil || there {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}

// tidy removes both objects. What it cannot remove goes with the bucket.
func (s *Storage) tidy(ctx context.Context, bucket string, keys ...string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTimeout)
	defer cancel()
	for _, key := range keys {
		_ = s.objects.Delete(ctx, bucket, key)
	}
}
