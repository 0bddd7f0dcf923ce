// SPDX-License-Identifier: Apache-2.0
// The slow truth: every operation once, scalar, in double, in the words of docs/spec/routing.md.
// Tests and tools judge the fast backends by it; nothing that ships links it.
#ifndef HGA_REFERENCE_REFERENCE_H_
#define HGA_REFERENCE_REFERENCE_H_

#include <memory>
#include <vector>

#include "backend/ops.h"

namespace hga {

// Allocates per call, runs on the calling thread, needs no Prepare.
std::unique_ptr<Ops> MakeReferenceOps();

// How clear the choices behind one plan are: scores in double, computed like the plan's own.
// Where nothing had to be chosen the last chosen is +infinity and the first refused -infinity.
struct PlanMargin {
  double last_opened;  // smallest score among the opened groups
  double first_shut;   // largest score among the groups left shut
  double last_kept;    // the same of the chunks of the first level
  double first_dropped;
};

// Of every (query, selector) that Route would decide: [queries][selectors]. Reads q, summaries,
// rule and positions; writes nothing.
std::vector<PlanMargin> PlanMargins(const RouteParams& p);

namespace reference {

void Linear(const LinearParams& p);
void Norm(const NormParams& p);
void Rotate(const RotateParams& p);
void Silu(const SiluParams& p);
void Experts(const ExpertsParams& p);
void Summarise(const SummariseParams& p);
void Beam(const BeamParams& p);
void Score(const ScoreParams& p);
void Select(const SelectParams& p);
void Route(const RouteParams& p);
void AttendDense(const AttendDenseParams& p);
void AttendRouted(const AttendRoutedParams& p);
void AttendSampled(const AttendSampledParams& p);

}  // namespace reference
}  // namespace hga

#endif  // HGA_REFERENCE_REFERENCE_H_
