#pragma once
#include "engine/engine.h"
#include "tools/needle/target.h"

namespace heddle::needle {

/// Greedy answers of an engine in this process. Prompts begin behind what earlier ones have left
/// in its prefix cache, unless that is off.
class EngineTarget final : public Target {
 public:
  /// `engine` must outlive this.
  explicit EngineTarget(Engine& engine) : engine_(engine) {}
  void ask(Question question,
           std::function<void()> prefilled,
           std::function<void(Reply)> done) override;
  bool step() override { return engine_.step(); }

 private:
  Engine& engine_;
};

}  // namespace heddle::needle
