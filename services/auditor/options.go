package auditor

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// options are the auditor's own flags.
type options struct {
	dir       string
	size      int64
	age       time.Duration
	endpoints map[string]string
	tokens    map[string]string
	// buckets of S3-compatible stores, and files with the credentials for them, by sink.
	buckets     map[string]string
	credentials map[string]string
	region      string
	linger      time.Duration
	cdevents    bool
}

// cdeventsName is the name of the sink for CDEvents.
const cdeventsName = "cdevents"

func (o *options) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.dir, "dir", "", "folder of the trail, on a disk that outlives the process (required)")
	fs.Int64Var(&o.size, "segment-size", 64<<20, "bytes after which a new segment is begun")
	fs.DurationVar(&o.age, "segment-age", 24*time.Hour, "age at which the next record begins a new segment")
	fs.StringToStringVar(&o.endpoints, "http-sink", nil, "NAME=URL of an endpoint that takes CloudEvents; may be repeated")
	fs.StringToStringVar(&o.tokens, "http-sink-token-file", nil, "NAME=FILE with the bearer token of a sink; read at each request")
	fs.StringToStringVar(&o.buckets, "s3-sink", nil, "NAME=https://HOST/BUCKET[/PREFIX] of an S3-compatible store; may be repeated")
	fs.StringToStringVar(&o.credentials, "s3-sink-credentials-file", nil, "NAME=FILE in the form of ~/.aws/credentials (default: what the SDKs of AWS find)")
	fs.StringVar(&o.region, "s3-region", "", "region of the buckets (default: what the SDKs of AWS find, else us-east-1)")
	fs.DurationVar(&o.linger, "s3-linger", time.Minute, "how long a record may wait for others before an object is written")
	fs.BoolVar(&o.cdevents, "cdevents", false, "also say everything as CDEvents, on orkestra.cdevents.> of the stream ORKESTRA_CDEVENTS")
}

// sinkName is part of the names of files and a label of metrics.
var sinkName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

func (o *options) validate() error {
	var errs []error
	if o.dir == "" {
		errs = append(errs, errors.New("--dir: say in which folder the trail is kept"))
	}
	if o.size < 1 {
		errs = append(errs, fmt.Errorf("--segment-size %d: want 1 or more", o.size))
	}
	if o.age <= 0 {
		errs = append(errs, fmt.Errorf("--segment-age %s: want more than nothing", o.age))
	}
	if o.linger < 0 {
		errs = append(errs, fmt.Errorf("--s3-linger %s: want 0s or more", o.linger))
	}
	for name, endpoint := range o.endpoints {
		errs = append(errs, validSink("--http-sink", name, endpoint, "--http-sink-token-file"))
	}
	for name, bucket := range o.buckets {
		errs = append(errs, validSink("--s3-sink", name, bucket, "--s3-sink-credentials-file"))
		if u, err := url.Parse(bucket); err == nil && (strings.Trim(u.Path, "/") == "" || u.RawQuery != "") {
			errs = append(errs, fmt.Errorf("--s3-sink %s: want https://host/bucket or https://host/bucket/prefix", name))
		}
		if o.endpoints[name] != "" || o.cdevents && name == cdeventsName {
			errs = append(errs, fmt.Errorf("--s3-sink %s: there is another sink of that name", name))
		}
	}
	if o.cdevents && o.endpoints[cdeventsName] != "" {
		errs = append(errs, fmt.Errorf("--http-sink %s: that is the name of the sink of --cdevents", cdeventsName))
	}
	errs = append(errs,
		strays("--http-sink-token-file", o.tokens, "--http-sink", o.endpoints),
		strays("--s3-sink-credentials-file", o.credentials, "--s3-sink", o.buckets))
	return errors.Join(errs...)
}

// strays are files for sinks that are not there.
func strays(flag string, files map[string]string, sinkFlag string, sinks map[string]string) error {
	var errs []error
	for name := range files {
		if sinks[name] == "" {
			errs = append(errs, fmt.Errorf("%s %s: there is no %s of that name", flag, name, sinkFlag))
		}
	}
	return errors.Join(errs...)
}

// validSink never shows the URL, which may hold a secret.
func validSink(flag, name, address, fileFlag string) error {
	if !sinkName.MatchString(name) {
		return fmt.Errorf("%s %q: a name has up to 32 small letters, digits and dashes", flag, name)
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%s %s: want http://host/path or https://host/path", flag, name)
	case u.User != nil:
		return fmt.Errorf("%s %s: put the credentials into a file, see %s", flag, name, fileFlag)
	}
	return nil
}
