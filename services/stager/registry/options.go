package registry

import "time"

// Options of New. All may be zero.
type Options struct {
	// AllowPrivate lets repositories be on loopback, link-local and private
	// addresses. A proxy of the environment is only used then, since who dials
	// through a proxy does not see where it ends.
	AllowPrivate bool
	// AllowHosts are the only ones that may be spoken to, by redirects, in an index and
	// for a token too: host names, exact or *.example.com for all below it, with any
	// port. Empty allows any. A listed host may still not be at a private address.
	AllowHosts []string
	// PlainHTTP are the hosts, host or host:port, of OCI registries without TLS. One on
	// loopback is taken for one where AllowPrivate is set and the credentials hold no
	// certificate.
	PlainHTTP []string
	// IndexTTL is how long an index is good without asking whether it changed.
	// Default 10 s. It never says no: before a chart is not found, it is asked for again.
	IndexTTL time.Duration
	// Timeout of one look at an index or at a registry, and of one download, from
	// dialling to the last byte. Default 1 min.
	Timeout time.Duration
	// MaxIndex and MaxArchive bound what is fetched, in bytes, unpacked where it comes
	// compressed. Defaults are those of source-controller, 50 MiB and 10 MiB: it would
	// not take what is larger.
	MaxIndex, MaxArchive int64
	// CacheBytes bounds the archives that are kept in memory, by repository and
	// digest. Default 64 MiB.
	CacheBytes int64
	// IndexCacheBytes bounds what is kept of all indexes in memory; a single one that
	// needs more is refused. Default 64 MiB, which is more than a hundred thousand
	// versions.
	IndexCacheBytes int64
	// UserAgent; default orkestra.
	UserAgent string
	// Now is the clock; default time.Now.
	Now func() time.Time
}

func (o *Options) setDefaults() {
	def := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	def(&o.MaxIndex, 50<<20)
	def(&o.MaxArchive, 10<<20)
	def(&o.CacheBytes, 64<<20)
	def(&o.IndexCacheBytes, 64<<20)
	def((*int64)(&o.IndexTTL), int64(10*time.Second))
	def((*int64)(&o.Timeout), int64(time.Minute))
	if o.UserAgent == "" {
		o.UserAgent = "orkestra"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}
