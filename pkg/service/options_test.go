package service

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func parse(t *testing.T, args []string, env map[string]string) (options, error) {
	t.Helper()
	var o options
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	o.addFlags(fs, Service{})
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	err := fromEnvironment(fs, func(k string) (string, bool) { v, ok := env[k]; return v, ok })
	if err != nil {
		return o, err
	}
	return o, o.validate(Service{})
}

func TestBadConfigurationNamesTheFlag(t *testing.T) {
	for flag, value := range map[string]string{
		"--nats-url": "http://127.0.0.1:4222", "--health-addr": "nowhere", "--metrics-addr": "1:2:3",
		"--namespace": "Not_A_Label", "--cluster-name": "UPPER", "--nats-replicas": "2",
		"--log-level": "loud", "--log-format": "xml", "--grace-period": "0s",
		"--nats-topology": "perhaps", "--pprof-addr": "6060", "--otlp-endpoint": "collector:4318",
	} {
		if _, err := parse(t, []string{flag, value}, nil); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s %s: want a refusal that names the flag, got %v", flag, value, err)
		}
	}
	if _, err := parse(t, nil, nil); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
}

func TestFlagsComeBeforeTheEnvironment(t *testing.T) {
	env := map[string]string{"ORKESTRA_NATS_URL": "nats://env:4222", "NATS_URL": "nats://plain:4222", "ORKESTRA_NAMESPACE": "there"}
	o, err := parse(t, []string{"--namespace", "here"}, env)
	if err != nil {
		t.Fatal(err)
	}
	if o.namespace != "here" || o.natsURL != "nats://env:4222" {
		t.Errorf("namespace %q and NATS %q, want the flag's and the environment's", o.namespace, o.natsURL)
	}
	o, err = parse(t, nil, map[string]string{"NATS_URL": "nats://plain:4222"})
	if err != nil || o.natsURL != "nats://plain:4222" {
		t.Errorf("NATS %q, %v: want that of NATS_URL", o.natsURL, err)
	}
	if _, err := parse(t, nil, map[string]string{"ORKESTRA_GRACE_PERIOD": "soon"}); err == nil || !strings.Contains(err.Error(), "ORKESTRA_GRACE_PERIOD") {
		t.Errorf("want a refusal that names the variable, got %v", err)
	}
}

func TestPasswordsAreNotLogged(t *testing.T) {
	if got := redactURL("nats://me:s3cret@a:4222,nats://b:4222"); strings.Contains(got, "s3cret") || !strings.Contains(got, "b:4222") {
		t.Errorf("got %s", got)
	}
}
