package auditor

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"orkestra.dev/services/auditor/record"
)

const (
	// largestObject is how many records an object has at most.
	largestObject = 1000
	// defaultRegion signs requests to stores that know no regions.
	defaultRegion = "us-east-1"
)

// bucket is a target in an S3-compatible store: objects of records as they are in the
// trail, named by the first and the last of them. No object is ever replaced.
type bucket struct {
	client *s3.Client
	name   string
	prefix string
	linger time.Duration
	dir    string
}

// newBucket of https://host/bucket/prefix.
func newBucket(ctx context.Context, address, credentials, region, dir string) (*bucket, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("it is no URL")
	}
	// Retries are the sink's: it waits longer, and says so.
	options := []func(*config.LoadOptions) error{
		config.WithRetryMaxAttempts(1), config.WithRegion(region),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(requestTimeout)),
		// What a store other than that of AWS need not know.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	}
	if credentials != "" {
		options = append(options, config.WithSharedCredentialsFiles([]string{credentials}), config.WithSharedConfigFiles(nil))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("loading the configuration: %w", err)
	}
	c.Region = cmp.Or(c.Region, defaultRegion)
	name, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	return &bucket{
		client: s3.NewFromConfig(c, func(o *s3.Options) {
			o.BaseEndpoint, o.UsePathStyle = aws.String(u.Scheme+"://"+u.Host), true
		}),
		name: name, prefix: prefix, dir: dir,
	}, nil
}

func (b *bucket) batch() (int, time.Duration) { return largestObject, b.linger }

// give writes an object, unless there is one that begins with the first record: a death
// after it was written, and before the position was saved, leaves that. It counts where it
// has what the trail has.
func (b *bucket) give(ctx context.Context, records []line) (mark, verdict, error) {
	again := verdict{what: outcomeRetried}
	key, err := b.beginning(ctx, records[0].N)
	if err != nil {
		return mark{}, again, withoutURL(err)
	}
	if key != "" {
		done, err := b.compare(ctx, key, records[0].N)
		if err != nil {
			return mark{}, again, withoutURL(err)
		}
		return done, verdict{what: outcomeDelivered}, nil
	}
	last := records[len(records)-1]
	if err := b.put(ctx, record.ObjectName(records[0].N, last.N), records); err != nil {
		return mark{}, again, withoutURL(err)
	}
	return markOf(last.Record), verdict{what: outcomeDelivered}, nil
}

func (b *bucket) put(ctx context.Context, name string, records []line) error {
	var body bytes.Buffer
	for _, r := range records {
		body.Write(r.bytes)
	}
	sum := sha256.Sum256(body.Bytes())
	_, err := b.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &b.name, Key: aws.String(path.Join(b.prefix, name)), Body: bytes.NewReader(body.Bytes()),
		ContentType: aws.String("application/jsonl"), IfNoneMatch: aws.String("*"),
		// A bucket whose objects are locked asks for it.
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
	})
	if status(err) == http.StatusPreconditionFailed || status(err) == http.StatusConflict {
		return fmt.Errorf("object %s is there already, and is looked at", name)
	}
	if err != nil {
		return fmt.Errorf("writing object %s: %w", name, err)
	}
	return nil
}

// status of an answer; 0 where there was none.
func status(err error) int {
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return answer.HTTPStatusCode()
	}
	return 0
}

// beginning is the key of the object that begins with record n; empty where there is none.
func (b *bucket) beginning(ctx context.Context, n uint64) (string, error) {
	found, err := b.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
		Bucket: &b.name, Prefix: aws.String(path.Join(b.prefix, record.ObjectPrefix(n))), MaxKeys: aws.Int32(1),
	})
	if _, missing := errors.AsType[*types.NoSuchBucket](err); missing {
		return "", fmt.Errorf("there is no bucket %s", b.name)
	}
	if err != nil {
		return "", fmt.Errorf("listing bucket %s: %w", b.name, err)
	}
	if len(found.Contents) == 0 {
		return "", nil
	}
	return aws.ToString(found.Contents[0].Key), nil
}

// compare an object with the trail, of which it has to be a piece from record n on.
func (b *bucket) compare(ctx context.Context, key string, n uint64) (done mark, err error) {
	object, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		return done, fmt.Errorf("reading object %s: %w", path.Base(key), err)
	}
	defer func() { err = errors.Join(err, object.Body.Close()) }()
	trail := cursor{dir: b.dir, next: n}
	defer trail.close()
	for lines := bufio.NewReader(object.Body); ; {
		text, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			break
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return mark{}, fmt.Errorf("reading object %s: %w", path.Base(key), err)
		}
		r, err := trail.read()
		if err != nil {
			return mark{}, fmt.Errorf("object %s is of another trail, or of more than this one has; give each auditor a prefix of its own: %w", path.Base(key), err)
		}
		if !bytes.Equal(text, r.bytes) {
			return mark{}, fmt.Errorf("object %s is of another trail: record %d differs; give each auditor a prefix of its own", path.Base(key), r.N)
		}
		done = markOf(r.Record)
	}
	if done.N == 0 {
		return done, fmt.Errorf("object %s is empty", path.Base(key))
	}
	return done, nil
}
