package httpapi

import (
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	exampleHostKey     = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2m4T6qkUq0bW5gkVhR7sX1yE8nQp3tLwZc9dFvHa0K"
	exampleUserKey     = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBw8vP3kR6tYh1NcX5mQ2sDf7gJzL4aEo9iUbW0nTqMy"
	exampleFingerprint = "SHA256:Qm3vR8yT1kLz5wXc7bNfHdGjP2sUaEoI9tYqVnMx4Zk"
)

func exampleDepot() fleet.DepotView {
	return fleet.DepotView{
		Address: "backup.example.net:2222", HostKey: exampleHostKey, Fingerprint: exampleFingerprint,
		Uses: []fleet.DepotUse{{Repository: "shared", Open: 1, Connections: 214, Refused: 2, Received: 1 << 34, Sent: 1 << 28}},
	}
}

func exampleUnfreezing() job.Job {
	done := exampleDone(job.ListSpec{}, job.Result{Archives: []job.Archive{}})
	done.Host, done.Repository = fleet.LocalHost, "shared"
	return done
}

func exampleDepotRepository() fleet.RepositoryView {
	repository := exampleRepository()
	repository.Name, repository.Location, repository.Busy, repository.BusyJob = "shared", job.DepotLocation, "", ""
	repository.Depot = &fleet.Depot{Quota: 500e9, AppendOnly: true, Hosts: []string{"legacy", "web1"}}
	return repository
}
