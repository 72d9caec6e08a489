# Which sources make the library `cajal`: what the verbs need that run, train, look at and change a
# language model. Everything else above the torch-free floors is a part of some published system and
# goes into `cajal_systems`, so that nobody waits for 65 systems who wants one model split. A source
# that is missing here shows as an undefined symbol when the command is linked.
set(command_parts
  "core/torch" "models/lm/" "models/judges/" "neurons/(activation|chain|elementwise)"
  "layers/(init|layer|matrix|ops|port)" "layers/mixers/"
  "layers/ffn/(balancing|experts|grouping|routed|routing|sparse_memory)"
  "math/(agreement|assignment|clusters|partition|product_quantizer|similarity)"
  "study/(canvas|html|plot|range)"
  "train/(card|checkpoint|graph|language_model|log|optimizer|options|parameters|processes|saved_bytes)"
  "train/(tokens|trainer|tuning)"
  "atlas/(browse|census|collectors|confidence\\.|correlate|findings|live|measure|report|sqlite|store|text\\.)"
  "surgery/(errors|inputs|moefy|moments|plan|predictor|regroup|router|scores|share|sparsity|split|write)")
