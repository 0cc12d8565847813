#!/usr/bin/env bash
# The verbs fabric over rdma_rxe: the conformance suite and its own tests, IPv4 and IPv6, on one device that talks to
# itself; nothing may be left over. RNBD_TEST_FILTER: a gtest filter.
. "$LAB_LIB"

rdma_loop
export RNBD_TEST_RDMA_V4=10.0.0.1 RNBD_TEST_RDMA_V6=fd00::1
before=$(rdma_counts)

step "verbs_test"
"$RNBD_BIN/verbs_test" --gtest_filter="${RNBD_TEST_FILTER:-*}"
expect_no_rdma_leak "$before"
