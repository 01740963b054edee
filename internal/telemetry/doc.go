// Package telemetry is how Takt's processes tell about themselves: a logger,
// the metrics, and the listener Prometheus reads them from.
//
// Nothing here is global. A main makes one logger, one registry and one Metrics
// and hands them down; tests make their own. Metrics are counted where a
// transition happens, so that showing them never asks Redis.
package telemetry
