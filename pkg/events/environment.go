package events

import "cmp"

// FromEnvironment fills what is empty with what the variables of NATS' own tools
// say, or those of our services: NATS_URL, NATS_CA, and NATS_NKEY where no other way to
// identify is given; ORKESTRA_NATS_URL and so on.
func (o Options) FromEnvironment(getenv func(string) string) Options {
	o.URL = cmp.Or(o.URL, getenv("NATS_URL"), getenv("ORKESTRA_NATS_URL"))
	o.CAFile = cmp.Or(o.CAFile, getenv("NATS_CA"), getenv("ORKESTRA_NATS_CA"))
	if o.NKeyFile == "" && o.CredsFile == "" && o.CertFile == "" && o.User == "" && o.Token == "" {
		o.NKeyFile = cmp.Or(getenv("NATS_NKEY"), getenv("ORKESTRA_NATS_NKEY"))
	}
	return o
}
