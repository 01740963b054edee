package config_test

import (
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/config"
)

const (
	machine = "4d1c2b0e7c2a4b579a620d3d7a1b9f01"
	volume  = "4d1c2b0e7c2a4b579a620d3d7a1b9f02"
)

func TestMachinesWithTheirDisks(t *testing.T) {
	want := config.Default[config.Worker]()
	want.CBT = config.CBT{
		Roots: []string{"/vm", "/run/vm"}, Dir: "/vm/takt", Backups: "/backups", Listen: config.CBTListen{Host: "10.0.0.1", PortFrom: 10900, Certs: "/vm/tls"},
		Machines: []config.CBTMachine{{
			UUID: machine, Name: "db", QMP: "/run/vm/db.qmp", Driver: "qemu", Port: 10999,
			Disks: []config.CBTVolume{{Volume: volume, Path: "/vm/db.qcow2", Format: "qcow2"}},
		}},
		Volumes: []config.CBTVolume{{Volume: "4d1c2b0e-7c2a-4b57-9a62-0d3d7a1b9f03", Path: "/vm/raw", Format: "raw"}},
	}
	const machines = "[{uuid: " + machine + ", name: db, qmp: /run/vm/db.qmp, driver: qemu, port: 10999, disks: [{volume: " + volume + ", path: /vm/db.qcow2, format: qcow2}]}]"
	const volumes = "[{volume: 4d1c2b0e-7c2a-4b57-9a62-0d3d7a1b9f03, path: /vm/raw, format: raw}]"
	file := write(t, "worker:\n  cbt:\n    roots: [/vm, /run/vm]\n    dir: /vm/takt\n    backups: /backups\n    listen: {host: 10.0.0.1, portFrom: 10900, certs: /vm/tls}\n    machines: "+machines+"\n    volumes: "+volumes+"\n")
	same(t, load[config.Worker](t, []string{"--config", file}, nil), want)
	same(t, load[config.Worker](t, []string{"--worker-cbt-machines", machines, "--worker-cbt-volumes=" + volumes}, []string{
		"TAKT_WORKER_CBT_ROOTS=/vm,/run/vm", "TAKT_WORKER_CBT_DIR=/vm/takt", "TAKT_WORKER_CBT_BACKUPS=/backups", "TAKT_WORKER_CBT_LISTEN_HOST=10.0.0.1",
		"TAKT_WORKER_CBT_LISTEN_PORT_FROM=10900", "TAKT_WORKER_CBT_LISTEN_CERTS=/vm/tls",
	}), want)
}

func TestWrongMachines(t *testing.T) {
	const disk = "disks: [{volume: " + volume + ", path: /vm/1, format: raw}]"
	good := "uuid: " + machine + ", " + disk
	rows := []struct {
		name, roots, machines, more, want string
	}{
		{name: "no roots", machines: good, want: "worker.cbt.roots"},
		{name: "root is not absolute", roots: "vm", machines: good, want: `worker.cbt.roots: "vm"`},
		{name: "a relative directory of backups", roots: "/vm", machines: good, more: "TAKT_WORKER_CBT_BACKUPS=backups", want: "worker.cbt.backups"},
		{name: "a long directory", roots: "/vm", machines: good, more: "TAKT_WORKER_CBT_DIR=/" + strings.Repeat("x", 60), want: "worker.cbt.dir"},
		{name: "no uuid", roots: "/vm", machines: "name: vm1, " + disk, want: "want uuids"},
		{name: "uuid twice", roots: "/vm", machines: good + "}, {" + good, want: "it stands twice"},
		{name: "no disks", roots: "/vm", machines: "uuid: " + machine, want: "want a machine with disks"},
		{name: "image elsewhere", roots: "/vms", machines: good, want: `"/vm/1"`},
		{name: "image above", roots: "/vm", machines: strings.Replace(good, "/vm/1", "/vm/../etc/shadow", 1), want: `"/vm/../etc/shadow"`},
		{name: "format unknown", roots: "/vm", machines: strings.Replace(good, "raw", "vmdk", 1), want: "want raw, qcow2"},
		{name: "monitor elsewhere", roots: "/vm", machines: good + ", qmp: /run/qmp", want: `"/run/qmp"`},
		{name: "qemu without monitor", roots: "/vm", machines: good + ", driver: qemu", want: "want qmp for the driver qemu"},
		{name: "driver unknown", roots: "/vm", machines: good + ", driver: libvirt", want: "want auto, qemu, scan"},
		{name: "key unknown", roots: "/vm", machines: good + ", qpm: /run/qmp", want: "field qpm not found"},
		{name: "TCP without certificates", roots: "/vm", machines: good + ", port: 10809", more: "TAKT_WORKER_CBT_LISTEN_HOST=10.0.0.1", want: "worker.cbt.listen.certs"},
		{name: "TCP without port", roots: "/vm", machines: good, more: "TAKT_WORKER_CBT_LISTEN_HOST=10.0.0.1", want: "worker.cbt.listen.portFrom"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			env := []string{"TAKT_WORKER_CBT_ROOTS=" + row.roots, "TAKT_WORKER_CBT_MACHINES=[{" + row.machines + "}]"}
			fails[config.Worker](t, nil, append(env, row.more), row.want)
		})
	}
}
