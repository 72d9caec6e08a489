# Which sources make the library `cajal`: what the verbs need that run, train, look at and change a
# language model. Everything else above the torch-free floors is a part of some published system and
# goes into `cajal_systems`, so that nobody waits for 65 systems who wants one model split. A source
# that is missing here shows as an undefined symbol when the command is linked.
set(command_parts
  "core/torch" "models/lm/" "layers/(matrix|ops)" "neurons/(activation|chain|elementwise)"
  "math/(assignment|similarity)" "study/(canvas|html|plot|range)"
  "atlas/(census|collectors|confidence|correlate|findings|measure|report|sqlite|store|text\\.)"
  "surgery/(errors|inputs|plan|predictor|regroup|scores|share|sparsity|split|write)"
  "train/(card|checkpoint|graph|language_model|log|optimizer|options|parameters|processes|tokens|trainer)")
list(JOIN command_parts "|" command_parts)
