package versions_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/pkg/events/internal/versions"
)

const first = `{"title":"a","type":"object","$defs":{"Piece":{"type":"object","properties":{"name":{"type":"string","description":"of it"}},"required":["name"]}},
"properties":{"pieces":{"type":"array","items":{"$ref":"#/$defs/Piece"}},"count":{"type":"integer"}},"required":["pieces"]}`

func TestAdd(t *testing.T) {
	edit := func(pairs ...string) string {
		s := strings.NewReplacer(pairs...).Replace(first)
		if len(pairs) > 0 && s == first {
			t.Fatalf("%q is not in the schema", pairs[0])
		}
		return s
	}
	cases := map[string]struct {
		reason, schema, version string
		want                    string // part of the error
		changed                 bool
	}{
		"Same":           {"", first, "1.0", "", false},
		"Words":          {"annotations are no part of it", edit(`"of it"`, `"of the piece"`, `"title":"a"`, `"title":"b","$comment":"c"`), "1.0", "", false},
		"DefinitionName": {"where a definition stands is no part of it", edit("Piece", "Part"), "1.0", "", false},
		"Idle":           {"a version says that something is new", first, "1.1", "as it was in version 1.0", false},
		"Optional":       {"", edit(`"count":{`, `"more":{"type":"string"},"count":{`), "1.1", "", false},
		"Deep":           {"", edit(`"properties":{"name":`, `"properties":{"more":{"type":"string"},"name":`), "1.1", "", false},
		"Unversioned":    {"", edit(`"count":{`, `"more":{"type":"string"},"count":{`), "1.0", "data.more is new since version 1.0; make its version 1.1", true},
		"DeepUnsaid":     {"", edit(`"properties":{"name":`, `"properties":{"more":{"type":"string"},"name":`), "1.0", "data.pieces[].more is new", true},
		"Skipped":        {"", edit(`"count":{`, `"more":{"type":"string"},"count":{`), "1.2", "make its version 1.1", true},
		"Required":       {"what is stored already has none", edit(`"required":["pieces"]`, `"required":["pieces","count"]`), "1.1", "data: required was", true},
		"NewAndRequired": {"", edit(`"count":{`, `"more":{"type":"string"},"count":{`, `["pieces"]`, `["pieces","more"]`), "1.1", "data: required was", true},
		"Loosened":       {"readers rely on it", edit(`,"required":["pieces"]`, ``), "1.1", "data: required was", true},
		"Gone":           {"", edit(`,"count":{"type":"integer"}`, ``), "1.1", "data.count is gone", true},
		"Renamed":        {"", edit(`"count":{`, `"number":{`), "1.1", "data.count is gone", true},
		"Retyped":        {"", edit(`"type":"integer"`, `"type":"string"`), "1.1", `data.count: type was "integer" and is "string"`, true},
		"DeepRetyped":    {"", edit(`"name":{"type":"string"`, `"name":{"type":"number"`), "1.1", "data.pieces[].name: type", true},
		"Narrowed":       {"", edit(`"type":"integer"`, `"type":"integer","minimum":1`), "1.1", "minimum was absent and is 1", true},
		"Enumerated":     {"", edit(`"type":"integer"`, `"type":"integer","enum":[1]`), "1.1", "enum was absent", true},
		"Dangling":       {"", edit(`#/$defs/Piece`, `#/$defs/Other`), "1.0", "refers to nothing", false},
		"Recursive":      {"", edit(`"name":{"type":"string","description":"of it"}`, `"name":{"$ref":"#/$defs/Piece"}`), "1.0", "refers to itself", false},
		"NotJSON":        {"", "<x/>", "1.0", "invalid character", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			lock := versions.Lock{}
			if err := lock.Add("a", "1.0", []byte(first)); err != nil {
				t.Fatal(err)
			}
			err := lock.Add("a", c.version, []byte(c.schema))
			switch {
			case c.want == "" && err != nil:
				t.Fatalf("%s: %v", c.reason, err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Fatalf("%s: Add() = %v, want %q in it", c.reason, err, c.want)
			case errors.Is(err, versions.ErrChanged) != c.changed:
				t.Errorf("%v is ErrChanged: %t", err, !c.changed)
			}
			var got []string
			for _, v := range lock["a"] {
				got = append(got, v.Version)
			}
			want := []string{"1.0"}
			if c.want == "" && c.version != "1.0" {
				want = append(want, c.version)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the versions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestANewTypeBeginsAtTheFirstVersion(t *testing.T) {
	if err := (versions.Lock{}).Add("a", "1.1", []byte(first)); err == nil {
		t.Error("a new type is locked as 1.1")
	}
}

func TestAnEditedLockIsRefused(t *testing.T) {
	_, err := versions.ReadLock([]byte(`{"a":[{"version":"1.0","digest":"sha256:00","shape":{"type":"object"}}]}`))
	if err == nil || !strings.Contains(err.Error(), "was edited") {
		t.Errorf("ReadLock() = %v", err)
	}
	if _, err := versions.ReadLock([]byte(`[]`)); err == nil {
		t.Error("what is no lock is read")
	}
}
