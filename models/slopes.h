#pragma once
#include <vector>

namespace heddle {

/// Decay slopes of n_heads heads, ALiBi's rule: 2^(-8 (h + 1) / n) where n = n_heads is a power of
/// two; else those of the power of two p below, then every second one of 2p's, from the first.
/// Source: Press et al. 2021 (ALiBi) and its code; TransNormerLLM and MiniMax take it over.
std::vector<double> alibi_slopes(int n_heads);

/// Slopes of layer `layer` of n_layers: table * (1 - (layer - offset) / (n_layers - 1) + 1e-5), all
/// layers counted from 0, softmax ones too. TransNormerLLM and MiniMax: offset 0; the published
/// code of Bailing (Ring/Ling linear): 1. One layer: the table * (1 + 1e-5).
std::vector<float> layer_slopes(const std::vector<double>& table,
                                int layer,
                                int n_layers,
                                int offset = 0);

/// The table itself, as f32.
std::vector<float> plain_slopes(const std::vector<double>& table);

/// How a model's layers come by their slopes.
struct SlopeRule {
  std::vector<double> table;
  bool by_layer = false;  // layer_slopes(), else plain_slopes()
  int offset = 0;
  std::vector<float> of(int layer, int n_layers) const {
    return by_layer ? layer_slopes(table, layer, n_layers, offset) : plain_slopes(table);
  }
};

}  // namespace heddle
