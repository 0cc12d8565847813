#!/usr/bin/env bash
# The verbs fabric over rdma_rxe: the conformance suite and its own tests, on one device that talks to itself; nothing
# may be left over. RNBD_TEST_FILTER: a gtest filter instead of all.
# lab: --timeout 600
. "$LAB_LIB"
[ -x "$RNBD_BIN/verbs_test" ] || skip "built without RDMA"

rdma_loop
export RNBD_TEST_RDMA_V4=10.0.0.1 RNBD_TEST_RDMA_V6=fd00::1
before=$(rdma_counts)
run() { "$RNBD_BIN/verbs_test" --gtest_brief=1 --gtest_filter="$1"; }

if [ -n "${RNBD_TEST_FILTER:-}" ]; then
  "$RNBD_BIN/verbs_test" --gtest_filter="$RNBD_TEST_FILTER"
else
  step "IPv4"
  run '*-*/v6:*/windows'
  step "gates that are memory windows"
  run '*Gate*/windows:*Chunk*/windows'
  step "IPv6"
  run '*Connect*/v6:*PrivateData*/v6:*RandomTraffic*/v6'
fi
step "nothing is left over"
expect_no_rdma_leak "$before"
