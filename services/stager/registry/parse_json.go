package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxDepth is that of encoding/json for a value.
const maxDepth = 10_000

// readJSON reads an index in JSON, token by token down to the versions.
func readJSON(r io.Reader, x *index) error {
	j := &jsonReader{in: &bounded{r: r}, index: x}
	j.Decoder = json.NewDecoder(j.in)
	if err := j.object(func() {}, j.top); err != nil {
		return err
	}
	if _, err := j.token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after its end")
	}
	return nil
}

type jsonReader struct {
	*json.Decoder
	in    *bounded
	index *index
}

// token and value renew what may be read: the decoder buffers a value whole.
func (j *jsonReader) token() (json.Token, error) {
	j.in.left = maxPart
	return j.Token()
}

func (j *jsonReader) value(into any) error {
	j.in.left = maxPart
	return j.Decode(into)
}

// object calls field at the value of each of its keys, or null.
func (j *jsonReader) object(null func(), field func(key string) error) error {
	t, err := j.token()
	if err != nil {
		return err
	}
	if t == nil {
		null()
		return nil
	}
	if t != json.Delim('{') {
		return fmt.Errorf("there is %v where an object should be", t)
	}
	for {
		t, err := j.token()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok {
			return nil // its end
		}
		if err := field(key); err != nil {
			return err
		}
	}
}

// top is a field of the index. Keys are read as encoding/json does.
func (j *jsonReader) top(key string) error {
	switch {
	case strings.EqualFold(key, "apiVersion"):
		return j.value(&j.index.apiVersion)
	case strings.EqualFold(key, "entries"):
		return j.object(j.index.clear, j.chart)
	}
	return j.skip()
}

func (j *jsonReader) chart(name string) error {
	t, err := j.token()
	if err != nil {
		return err
	}
	if t != nil && t != json.Delim('[') {
		return fmt.Errorf("there is %v where the versions of a chart should be", t)
	}
	if err := j.index.set(name, nil); err != nil || t == nil {
		return err
	}
	for j.in.left = maxPart; j.More(); j.in.left = maxPart {
		var e entry
		if err := j.value(&e); err != nil {
			return err
		}
		if err := j.index.append(name, e); err != nil {
			return err
		}
	}
	_, err = j.token()
	return err
}

func (j *jsonReader) skip() error {
	for depth := 0; ; {
		t, err := j.token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		switch {
		case depth == 0:
			return nil
		case depth > maxDepth: // the decoder remembers each
			return errors.New("it is nested too deep")
		}
	}
}
