package config

import "time"

// The tags of a setting: yaml is its name; help and default are shown by --help
// (default also applies to the zero value, and "-" at a section takes away the
// defaults within); secret is "true" for a value that is never shown and "url"
// for one whose password is not.

// Shared are the settings every process has.
type Shared struct {
	Redis   Redis   `yaml:"redis"`
	NATS    NATS    `yaml:"nats"`
	Log     Log     `yaml:"log"`
	Metrics Metrics `yaml:"metrics"`
}

// Redis says where Takt's records and queues are.
type Redis struct {
	URL        string `yaml:"url" default:"redis://127.0.0.1:6379/0" secret:"url" help:"Redis: redis://, rediss://, unix://, redis-sentinel:// or redis-cluster://"`
	Username   string `yaml:"username" help:"user, where the URL names none"`
	Password   string `yaml:"password" secret:"true" help:"password, where the URL names none"`
	CAFile     string `yaml:"caFile" help:"certificate authorities to trust instead of the system's"`
	CertFile   string `yaml:"certFile" help:"client certificate"`
	KeyFile    string `yaml:"keyFile" help:"key of the client certificate"`
	ServerName string `yaml:"serverName" help:"name expected in the server's certificate"`
	PoolSize   int    `yaml:"poolSize" help:"connections kept; 0 means ten for each core"`
}

// NATS says where fires, rings and events travel.
type NATS struct {
	URLs            []string `yaml:"urls" default:"nats://127.0.0.1:4222" secret:"url" help:"NATS servers: nats:// or tls://"`
	CredentialsFile string   `yaml:"credentialsFile" help:"credentials file (JWT and seed)"`
	User            string   `yaml:"user" help:"user"`
	Password        string   `yaml:"password" secret:"true" help:"password of the user"`
	Token           string   `yaml:"token" secret:"true" help:"token, instead of user and password"`
	CAFile          string   `yaml:"caFile" help:"certificate authorities to trust instead of the system's"`
	CertFile        string   `yaml:"certFile" help:"client certificate"`
	KeyFile         string   `yaml:"keyFile" help:"key of the client certificate"`
}

// Log says what is logged and how. Logs go to standard error.
type Log struct {
	Level  string `yaml:"level" default:"info" help:"debug, info, warn or error"`
	Format string `yaml:"format" default:"text" help:"text or json"`
}

// Metrics says where Prometheus may read.
type Metrics struct {
	Listen string `yaml:"listen" help:"address of /metrics, /healthz and /readyz, such as 127.0.0.1:9464; empty means none"`
}

// APISettings are the settings of the api process.
type APISettings struct {
	Listen string `yaml:"listen" default:"127.0.0.1:8080" help:"address of the APIs and the console"`
	ZStack ZStack `yaml:"zstack"`
	Admin  Admin  `yaml:"admin"`
	// TrustedProxies matter for the back-off after failed sign-ins, which counts per address.
	TrustedProxies []string      `yaml:"trustedProxies" help:"addresses or networks of proxies whose X-Forwarded-For is believed"`
	ViewersMonitor bool          `yaml:"viewersMonitor" help:"let viewers look at /monitoring, which shows the queues of all accounts"`
	SessionLife    time.Duration `yaml:"sessionLife" default:"2h" help:"how long a session lives unless it is renewed"`
	BodyLimit      Bytes         `yaml:"bodyLimit" default:"1MiB" help:"largest request body"`
	Retention      Retention     `yaml:"retention"`
	Limits         Limits        `yaml:"limits"`
	SecretKey      string        `yaml:"secretKey" secret:"true" help:"32 bytes in base64 that encrypt stored secrets (openssl rand -base64 32); the same for all replicas and workers"`
	Partitions     int           `yaml:"partitions" default:"16" help:"parts the records are split into; fixed at the first start"`
}

// ZStack are the choices of the ZStack dialect.
type ZStack struct {
	TimeZone    string `yaml:"timezone" default:"Local" help:"zone of the timestamps in ZStack answers and of the cron triggers made there, such as Asia/Shanghai; the same for all replicas"`
	AlwaysAsync bool   `yaml:"alwaysAsync" help:"answer every change with 202, as ZStack does, also to clients that would take 200"`
	// WebHookAllow is as worker.http.allow, for the calls of the api process.
	WebHookAllow []string `yaml:"webHookAllow" help:"private networks (CIDR), addresses or host:port that web hooks (X-Web-Hook) may call; public ones always may"`
}

// Admin is the account made at the first start.
type Admin struct {
	Name     string `yaml:"name" default:"admin" help:"name of the first account"`
	Password string `yaml:"password" secret:"true" help:"its password, 8 characters or more; empty means that the first start makes one and logs it once"`
}

// Retention says how long what is over is kept.
type Retention struct {
	Runs          time.Duration `yaml:"runs" default:"7d" help:"how long finished runs are kept; a shorter time counts for those that are there, too"`
	Ledger        time.Duration `yaml:"ledger" default:"7d" help:"how long a trigger's fires are kept"`
	LedgerEntries int           `yaml:"ledgerEntries" default:"10000" help:"how many fires of a trigger are kept at most"`
	Receipts      time.Duration `yaml:"receipts" default:"3h" help:"how long the outcome of an asynchronous call can be asked for"`
}

// Limits bound what may hang together. They hold for what is added; what is there
// stays when they are lowered.
type Limits struct {
	GroupJobs      int `yaml:"groupJobs" default:"1000" help:"jobs of a group at most"`
	TargetTriggers int `yaml:"targetTriggers" default:"10" help:"triggers of a job or group at most"`
}

// WorkerSettings are the settings of the worker process.
type WorkerSettings struct {
	Host        string         `yaml:"host" help:"name of this machine among the workers; empty means its host name"`
	Tags        []string       `yaml:"tags" help:"labels shown with this worker, such as gpu or zone=a"`
	Resources   []string       `yaml:"resources" help:"uuids of the resources this worker reaches"`
	Slots       int            `yaml:"slots" default:"16" help:"steps executed at once"`
	Queues      map[string]int `yaml:"queues" default:"critical=6,default=3,low=1" help:"queues served, with their weights"`
	Dequeuers   int            `yaml:"dequeuers" default:"2" help:"asynq servers in the process"`
	Drain       time.Duration  `yaml:"drain" default:"30s" help:"how long running steps may go on after SIGTERM"`
	HTTP        HTTP           `yaml:"http"`
	Shell       Shell          `yaml:"shell"`
	NATSRequest NATSRequest    `yaml:"natsRequest"`
	CBT         CBT            `yaml:"cbt"`
	SecretKey   string         `yaml:"secretKey" secret:"true" help:"key that opens stored secrets: the same as api.secretKey"`
}

// HTTP bounds the httpRequest job type.
type HTTP struct {
	Allow   []string      `yaml:"allow" help:"private networks (CIDR), addresses or host:port that may be called; public ones always may"`
	Timeout time.Duration `yaml:"timeout" default:"30s" help:"longest request, where the job names no timeout of its own"`
}

// Shell bounds the shellCommand job type. With nothing allowed nothing runs.
// The executor's own package says what the patterns mean.
type Shell struct {
	Allow   []Command     `yaml:"allow" help:"programs that may run, as YAML: [{path: /usr/bin/rsync, args: ['-a', '/data/.*']}]"`
	Roots   []string      `yaml:"roots" help:"directories that commands may work in"`
	Env     []string      `yaml:"env" help:"names of environment variables that a job may set"`
	PassEnv []string      `yaml:"passEnv" help:"names of our own environment variables that commands get"`
	Grace   time.Duration `yaml:"grace" default:"5s" help:"time between SIGTERM and SIGKILL"`
}

// A Command is a program that shellCommand may run.
type Command struct {
	// Path is the absolute path of the program.
	Path string `yaml:"path"`
	// Args are regular expressions, each of which one argument must match whole.
	Args []string `yaml:"args,omitempty"`
}

// NATSRequest is the connection of the natsRequest job type, never Takt's own.
type NATSRequest struct {
	NATS  `yaml:",inline" default:"-"`
	Allow []string `yaml:"allow" help:"subjects that may be asked, with NATS wildcards"`
}

// DevSettings are the settings of "takt dev".
type DevSettings struct {
	Dir    string `yaml:"dir" default:"takt-data" help:"directory of the private Redis and NATS"`
	Memory bool   `yaml:"memory" help:"keep everything in memory, for trying out"`
}
