#pragma once
// The form that an answer must have: response_format, structured_outputs, tools that must be
// called.

#include "engine/request.h"
#include "tools/serve/api/chat_input.h"
#include "tools/serve/api/fields.h"
#include "tools/serve/api/generation_plan.h"

namespace heddle::serve {

/// Sets the request's grammar and how its answer is read. Throws ApiError.
void set_chat_form(const Fields& fields,
                   const ChatInput& input,
                   const PlanContext& context,
                   GenerationPlan& plan,
                   Request& request);
void set_completion_form(const Fields& fields, const PlanContext& context, Request& request);

}  // namespace heddle::serve
