package zstack_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/testenv"
)

// A mortal is a process's connection to Redis: from some command on nothing gets
// through any more, as after kill -9.
type mortal struct {
	left atomic.Int64 // commands until then; the zero mortal is dead
	died chan struct{}
	once sync.Once
}

var errDead = fmt.Errorf("the process is dead: %w", context.Canceled)

func newMortal() *mortal {
	m := &mortal{died: make(chan struct{})}
	m.left.Store(1 << 40)
	return m
}

func (m *mortal) pass() error {
	if m.left.Add(-1) >= 0 {
		return nil
	}
	m.once.Do(func() { close(m.died) })
	return errDead
}

func (m *mortal) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (m *mortal) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := m.pass(); err != nil {
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

func (m *mortal) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := m.pass(); err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return err
		}
		return next(ctx, cmds)
	}
}

// runs has the replica take over what others leave, until the test's end.
func (r *replica) runs() *replica {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); r.api.Run(ctx) }()
	r.t.Cleanup(func() { stop(); <-ended })
	return r
}

// lapse ends every lease, as if all holders had been silent for its length.
func (r *replica) lapse() {
	r.t.Helper()
	for n := range 4 {
		key := "takt:{r:" + strconv.Itoa(n) + "}:open"
		for _, id := range r.redis.ZRange(context.Background(), key, 0, -1).Val() {
			if err := r.redis.ZAddXX(context.Background(), key, redis.Z{Score: 1, Member: id}).Err(); err != nil {
				r.t.Fatalf("end the lease of %s: %v", id, err)
			}
		}
	}
}

// row gives the receipt as it is stored.
func (r *replica) row(job string) (key string, fields map[string]string) {
	r.t.Helper()
	keys, err := r.redis.Keys(r.t.Context(), "takt:{r:*:receipt:"+job).Result()
	if err != nil || len(keys) > 1 {
		r.t.Fatalf("keys of receipt %s: %v, %v", job, keys, err)
	}
	if len(keys) == 0 {
		return "", nil
	}
	return keys[0], r.redis.HGetAll(r.t.Context(), keys[0]).Val()
}

// ends polls until the job has ended.
func (r *replica) ends(job string, within time.Duration) reply {
	r.t.Helper()
	var poll reply
	testenv.Eventually(r.t, within, func() error {
		poll = r.do("GET", "/api-jobs/"+job, "", "Authorization", "OAuth null")
		if poll.status == http.StatusAccepted {
			return fmt.Errorf("job %s still runs", job)
		}
		return nil
	})
	return poll
}

// A demand is a request and what can be seen of its effect.
type demand struct {
	method, path, body string
	before, after      string
	seen               func(r *replica) string
}

func (r *replica) count(path string) int {
	r.t.Helper()
	return len(r.do("GET", path, "").inventories())
}

// demands are made on fresh things each time, through the replica given.
var demands = map[string]func(r *replica) demand{
	"CreateSchedulerJobGroup": func(*replica) demand {
		name := newJobUUID()
		return demand{"POST", "/scheduler/jobgroups", `{"params":{"name":"` + name + `","type":"startVm"}}`, "0", "1", func(r *replica) string {
			return fmt.Sprint(r.count("/scheduler/jobgroups?q=name=" + name))
		}}
	},
	"CreateSchedulerJob with a uuid": func(*replica) demand {
		uuid := newJobUUID()
		return demand{"POST", "/scheduler/jobs", `{"params":{"name":"j","type":"startVm","targetResourceUuid":"` + newJobUUID() + `","resourceUuid":"` + uuid + `"}}`, "0", "1", func(r *replica) string {
			return fmt.Sprint(r.count("/scheduler/jobs/" + uuid))
		}}
	},
	"CreateSchedulerTrigger": func(*replica) demand {
		name := newJobUUID()
		return demand{"POST", "/scheduler/triggers", `{"params":{"name":"` + name + `","schedulerType":"simple","schedulerInterval":60,"repeatCount":0,"startTime":0}}`, "0", "1", func(r *replica) string {
			return fmt.Sprint(r.count("/scheduler/triggers?q=name=" + name))
		}}
	},
	"AddSchedulerJobsToSchedulerJobGroup": func(r *replica) demand {
		g, a, b := r.group("g"), r.job("a", newJobUUID()), r.job("b", newJobUUID())
		return demand{"POST", "/scheduler/jobgroups/" + g + "/job", `{"params":{"schedulerJobUuids":["` + a + `","` + b + `"]}}`, "0", "2", func(r *replica) string {
			return fmt.Sprint(r.count("/scheduler/jobs?q=schedulerJobGroupUuids=" + g))
		}}
	},
	"RemoveSchedulerJobsFromSchedulerJobGroup": func(r *replica) demand {
		a := r.job("a", newJobUUID())
		g := r.groupOf("g", a)
		return demand{"DELETE", "/scheduler/jobgroups/" + g + "/job?schedulerJobUuids=" + a, "", "1", "0", func(r *replica) string {
			return fmt.Sprint(r.count("/scheduler/jobs?q=schedulerJobGroupUuids=" + g))
		}}
	},
	"AddSchedulerJobGroupToSchedulerTrigger now": func(r *replica) demand {
		g, t := r.groupOf("g", r.job("a", newJobUUID())), r.trigger("t")
		return demand{"POST", "/scheduler/jobgroups/" + g + "/scheduler/triggers/" + t, `{"params":{"triggerNow":true}}`, "0 bound, 0 runs", "1 bound, 1 runs", func(r *replica) string {
			return fmt.Sprintf("%d bound, %d runs", r.count("/scheduler/triggers?q=uuid="+t+"&q=jobGroupsUuid="+g), r.count("/scheduler/job/history?q=schedulerJobGroupUuid="+g))
		}}
	},
	"AddSchedulerJobToSchedulerTrigger": func(r *replica) demand {
		j, t := r.job("a", newJobUUID()), r.trigger("t")
		return demand{"POST", "/scheduler/jobs/" + j + "/scheduler/triggers/" + t, "", "0", "1", func(r *replica) string {
			return fmt.Sprint(r.count("/scheduler/triggers?q=uuid=" + t + "&q=jobsUuid=" + j))
		}}
	},
	"RemoveSchedulerJobGroupFromSchedulerTrigger": func(r *replica) demand {
		g, t := r.groupOf("g", r.job("a", newJobUUID())), r.trigger("t")
		r.bindGroup(g, t, false).ok()
		return demand{"DELETE", "/scheduler/jobgroups/" + g + "/scheduler/triggers/" + t, "", "1", "0", func(r *replica) string {
			return fmt.Sprint(r.count("/scheduler/triggers?q=uuid=" + t + "&q=jobGroupsUuid=" + g))
		}}
	},
	"RunSchedulerTrigger": func(r *replica) demand {
		g, t := r.groupOf("g", r.job("a", newJobUUID())), r.trigger("t")
		r.bindGroup(g, t, false).ok()
		return demand{"PUT", "/scheduler/triggers/" + t + "/actions", `{"runSchedulerTrigger":{}}`, "0", "1", func(r *replica) string {
			return fmt.Sprint(r.count("/scheduler/job/history?q=schedulerJobGroupUuid=" + g))
		}}
	},
	"UpdateSchedulerJob": func(r *replica) demand {
		j := r.job("old", newJobUUID())
		return demand{"PUT", "/scheduler/jobs/" + j + "/actions", `{"updateSchedulerJob":{"name":"new"}}`, "old", "new", func(r *replica) string {
			return column(r.do("GET", "/scheduler/jobs/"+j, "").inventories(), "name")[0]
		}}
	},
	"ChangeSchedulerState": func(r *replica) demand {
		j := r.job("j", newJobUUID())
		return demand{"PUT", "/schedulers/" + j, `{"changeSchedulerState":{"stateEvent":"disable"}}`, "Enabled", "Disabled", func(r *replica) string {
			return column(r.do("GET", "/scheduler/jobs/"+j, "").inventories(), "state")[0]
		}}
	},
	"DeleteSchedulerJobGroup": func(r *replica) demand {
		g := r.groupOf("g", r.job("a", newJobUUID()))
		return demand{"DELETE", "/scheduler/jobgroups/" + g, "", "1", "0", func(r *replica) string {
			return fmt.Sprint(r.count("/scheduler/jobgroups/" + g))
		}}
	},
	"DeleteSchedulerTrigger": func(r *replica) demand {
		t := r.trigger("t")
		return demand{"DELETE", "/scheduler/triggers/" + t, "", "1", "0", func(r *replica) string {
			return fmt.Sprint(r.count("/scheduler/triggers/" + t))
		}}
	},
}

// send sends a demand to a replica that may die of it, and reports whether it did.
func (r *replica) send(d demand, job string, m *mortal) (died bool) {
	r.t.Helper()
	ctx, hangUp := context.WithCancel(r.t.Context())
	defer hangUp()
	req, _ := http.NewRequestWithContext(ctx, d.method, r.url+"/zstack/v1"+d.path, strings.NewReader(d.body))
	req.Header.Set("Authorization", "OAuth "+r.session)
	req.Header.Set("X-Job-UUID", job)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	select {
	case <-m.died:
		hangUp()
		<-answered
		return true
	case <-answered:
	}
	select {
	case <-m.died:
		return true
	default:
		return false
	}
}

// A replica is killed before each command that it sends to Redis, for each call.
// Once its receipt is stored another one brings the call to its end, and the effect
// is there once.
func TestKilledBetweenEachTwoWrites(t *testing.T) {
	for name, make := range demands {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.Redis(t)
			survivor := join(t, server.Client(t, testenv.SameSlot(t)), setting{})
			type victim struct {
				job string
				demand
			}
			var victims []victim
			for n := int64(0); ; n++ {
				v := victim{newJobUUID(), make(survivor)}
				m := newMortal()
				dying := join(t, server.Client(t, m), setting{})
				m.left.Store(n)
				if !dying.send(v.demand, v.job, m) {
					break
				}
				victims = append(victims, v)
				if n > 100 {
					t.Fatal("the request is never done")
				}
			}
			survivor.lapse()
			survivor.runs()
			finished := 0
			for n, v := range victims {
				got := survivor.ends(v.job, 20*time.Second)
				want := v.after
				if got.status == http.StatusNotFound {
					want = v.before // nobody was told that it was accepted
				} else if finished++; got.status != http.StatusOK {
					t.Errorf("killed at command %d: the job ended with %d %s", n, got.status, got.raw)
				}
				if seen := v.seen(survivor); seen != want {
					t.Errorf("killed at command %d: got %s, want %s; the job ended with %d %s", n, seen, want, got.status, got.raw)
				}
			}
			if finished < 2 {
				t.Errorf("%d of %d receipts were taken over, want some", finished, len(victims))
			}
			t.Logf("%d points, %d after the receipt was stored", len(victims), finished)
		})
	}
}

// The promise in real time: a lease that nobody ends for us.
func TestTakenOverWithinTenSeconds(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	survivor := join(t, server.Client(t), setting{}).runs()
	m := newMortal()
	dying := join(t, server.Client(t, m), setting{wrap: func(s engine.Store) engine.Store { return suicide{s, m} }})
	job, began := newJobUUID(), time.Now()
	if !dying.send(demands["CreateSchedulerJobGroup"](survivor), job, m) {
		t.Fatal("it did not die")
	}
	survivor.ends(job, 20*time.Second).inventory()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("taken over after %v, want 10 s at most", took)
	}
}

// suicide dies when it is to create a group.
type suicide struct {
	engine.Store
	m *mortal
}

func (s suicide) CreateGroup(ctx context.Context, g core.Group) error {
	s.m.left.Store(0)
	return s.Store.CreateGroup(ctx, g)
}

// A replica is paused within a call for longer than its lease. What it does when it
// wakes is refused or finds itself done.
func TestPausedReplicaComesTooLate(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	var g *gate
	paused := join(t, server.Client(t), setting{opts: zstack.Options{SyncWait: 50 * time.Millisecond}, wrap: func(s engine.Store) engine.Store {
		g = newGate(s)
		return g
	}})
	job := newJobUUID()
	body := `{"params":{"name":"` + job + `","type":"startVm"}}`
	if a := paused.do("POST", "/scheduler/jobgroups", body, "X-Job-UUID", job); a.status != http.StatusAccepted {
		t.Fatalf("got %d %s, want 202", a.status, a.raw)
	}
	<-g.entered
	other := join(t, server.Client(t), setting{})
	other.lapse()
	other.runs()
	first := other.ends(job, 10*time.Second)
	close(g.open)
	paused.api.Wait()
	equal(t, "groups", other.count("/scheduler/jobgroups?q=name="+job), 1)
	equal(t, "result", other.do("GET", "/api-jobs/"+job, "").raw, first.raw)
	if key, fields := other.row(job); fields["lost"] != "1" {
		t.Errorf("%s = %v, want one lost holder", key, fields)
	}
}

// The caller was checked when the request came; who they are is kept, and not
// whether they are still signed in.
func TestTakenOverForItsCaller(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	survivor := join(t, server.Client(t), setting{})
	m := newMortal()
	dying := join(t, server.Client(t, m), setting{wrap: func(s engine.Store) engine.Store { return suicide{s, m} }})
	dying.session = survivor.signIn("ann", core.Operator)
	d, job := demands["CreateSchedulerJobGroup"](survivor), newJobUUID()
	if !dying.send(d, job, m) {
		t.Fatal("it did not die")
	}
	survivor.do("DELETE", "/accounts/sessions/"+dying.session, "").ok()
	survivor.lapse()
	survivor.runs()
	uuid := survivor.ends(job, 10*time.Second).inventory()["uuid"].(string)
	made, err := survivor.engine.Group(survivor.ctx(), uuid)
	if err != nil {
		t.Fatal(err)
	}
	ann := survivor.signIn("bea", core.Operator)
	if made.Account == "" || survivor.count("/scheduler/jobgroups/"+uuid) != 1 {
		t.Errorf("account = %q, want ann's", made.Account)
	}
	equal(t, "seen by another account", len(survivor.do("GET", "/scheduler/jobgroups/"+uuid, "", "Authorization", "OAuth "+ann).inventories()), 0)
}

// A trigger with one slot is made, and then that slot passes before the receipt is
// taken over: the creation is still the one that succeeded.
func TestTakenOverWhenItsTimeHasPassed(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	survivor := join(t, server.Client(t), setting{})
	m := newMortal()
	dying := join(t, server.Client(t, m), setting{wrap: func(s engine.Store) engine.Store { return diesAfterTrigger{s, m} }})
	start := time.Now().Add(2 * time.Second).Unix()
	job := newJobUUID()
	d := demand{method: "POST", path: "/scheduler/triggers", body: fmt.Sprintf(`{"params":{"name":"%s","schedulerType":"simple","schedulerInterval":1,"repeatCount":1,"startTime":%d}}`, job, start)}
	if !dying.send(d, job, m) {
		t.Fatal("it did not die")
	}
	testenv.Eventually(t, 5*time.Second, func() bool { return time.Now().Unix() > start+1 })
	survivor.lapse()
	survivor.runs()
	if got := survivor.ends(job, 10*time.Second); got.inventory()["name"] != job {
		t.Errorf("result = %s, want the trigger", got.raw)
	}
	equal(t, "triggers", survivor.count("/scheduler/triggers?q=name="+job), 1)
}

type diesAfterTrigger struct {
	engine.Store
	m *mortal
}

func (s diesAfterTrigger) PutTrigger(ctx context.Context, t core.Trigger, settled time.Time, checkNext bool, entries []core.LedgerEntry, touched []core.Target) error {
	defer s.m.left.Store(0)
	return s.Store.PutTrigger(ctx, t, settled, checkNext, entries, touched)
}

// What nobody can bring to an end is told so.
func TestReceiptsThatAreGivenUp(t *testing.T) {
	t.Parallel()
	r := newReplica(t, setting{})
	asked := []byte(`{"call":"CreateSchedulerJobGroup","fields":{"name":"g","type":"startVm"}}`)
	open := func(x core.Receipt) string {
		x.ID, x.Call, x.Keep = newJobUUID(), "CreateSchedulerJobGroup", time.Hour
		if _, err := r.engine.OpenReceipt(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		return x.ID
	}
	late := open(core.Receipt{Asked: asked, Timeout: time.Millisecond})
	deadly := open(core.Receipt{Asked: asked, Timeout: time.Hour})
	key, _ := r.row(deadly)
	r.redis.HSet(t.Context(), key, "lost", core.MaxReceiptLost)
	newer := open(core.Receipt{Asked: []byte(`{"call":"OfANewerVersion"}`), Timeout: time.Hour})
	stale := open(core.Receipt{Asked: []byte(`{"call":"OfANewerVersion"}`), Timeout: time.Millisecond})
	r.lapse()
	r.runs()
	r.ends(late, 10*time.Second).fails(http.StatusServiceUnavailable, "SYS.1001", "whether it took effect is not known")
	r.ends(deadly, 10*time.Second).fails(http.StatusServiceUnavailable, "SYS.1000", "11 servers ended")
	r.ends(stale, 10*time.Second).fails(http.StatusServiceUnavailable, "SYS.1001", "whether it took effect is not known")
	if got := r.do("GET", "/api-jobs/"+newer, ""); got.status != http.StatusAccepted {
		t.Errorf("a call of a newer version: got %d %s, want 202", got.status, got.raw)
	}
	equal(t, "groups", r.count("/scheduler/jobgroups"), 0)
}

// The store goes away within a call that was accepted: the call is done when it is
// back.
func TestStoreAwayWithinACall(t *testing.T) {
	t.Parallel()
	var failures atomic.Int64
	failures.Store(1)
	r := newReplica(t, setting{wrap: func(s engine.Store) engine.Store { return away{s, &failures} }}).runs()
	job := newJobUUID()
	r.do("POST", "/scheduler/jobgroups", createGroup).fails(http.StatusServiceUnavailable, "SYS.1010", "")
	failures.Store(1)
	a := r.do("POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", job)
	if poll := r.accepted(job, a); poll.status != http.StatusAccepted {
		t.Errorf("poll = %d %s, want 202", poll.status, poll.raw)
	}
	if got := r.ends(job, 10*time.Second); got.inventory()["name"] != "g" {
		t.Errorf("result = %s, want the group", got.raw)
	}
	equal(t, "groups", r.count("/scheduler/jobgroups"), 1)

	// For as long as it may take, the answer is that it is away.
	failures.Store(1 << 40)
	r.do("POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", job+"").fails(http.StatusBadRequest, "SYS.1007", "Duplicate job uuid["+job+"]")
	other := newJobUUID()
	r.do("POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", other)
	key, _ := r.row(other)
	r.redis.HSet(t.Context(), key, "tries", 14)
	r.lapse()
	r.ends(other, 10*time.Second).fails(http.StatusServiceUnavailable, "SYS.1010", "the store is away")
}

// away is a store that cannot create groups for a while.
type away struct {
	engine.Store
	failures *atomic.Int64
}

func (s away) CreateGroup(ctx context.Context, g core.Group) error {
	if s.failures.Add(-1) >= 0 {
		return core.Errorf(core.Unavailable, "the store is away")
	}
	return s.Store.CreateGroup(ctx, g)
}

// A receipt that cannot be closed is answered with 202 all the same: it is done
// again, and found done.
func TestReceiptThatCannotBeClosed(t *testing.T) {
	t.Parallel()
	r, g := gated(t, zstack.Options{SyncWait: 100 * time.Millisecond})
	close(g.open)
	g.failures.Store(2) // passing
	job := newJobUUID()
	r.do("POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", job)
	r.ends(job, 5*time.Second).inventory()

	g.failures.Store(1 << 40) // lasting
	job = newJobUUID()
	a := r.do("POST", "/scheduler/jobgroups", `{"params":{"name":"`+job+`","type":"startVm"}}`, "X-Job-UUID", job)
	if poll := r.accepted(job, a); poll.status != http.StatusAccepted {
		t.Errorf("poll = %d %s, want 202", poll.status, poll.raw)
	}
	g.failures.Store(0)
	r.runs()
	if got := r.ends(job, 15*time.Second).inventory()["name"]; got != job {
		t.Errorf("name = %v, want %s", got, job)
	}
	equal(t, "groups", r.count("/scheduler/jobgroups?q=name="+job), 1)
}

// A direct call that becomes a receipt is as safe as one that began as one.
func TestSlowDirectCallIsTakenOver(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	var g *gate
	m := newMortal()
	slow := join(t, server.Client(t, m), setting{opts: zstack.Options{SyncWait: 50 * time.Millisecond}, wrap: func(s engine.Store) engine.Store {
		g = newGate(s)
		return g
	}})
	a := slow.do("POST", "/scheduler/jobgroups", createGroup)
	location, _ := a.body["location"].(string)
	job := location[strings.LastIndex(location, "/")+1:]
	if a.status != http.StatusAccepted || len(job) != 32 {
		t.Fatalf("got %d %s, want 202 with a location", a.status, a.raw)
	}
	m.left.Store(0)
	other := join(t, server.Client(t), setting{})
	other.lapse()
	other.runs()
	other.ends(job, 10*time.Second).inventory()
	equal(t, "groups", other.count("/scheduler/jobgroups"), 1)
	close(g.open)
}
