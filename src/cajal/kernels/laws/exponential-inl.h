// Included inside a namespace after dual-inl.h: the ELU family, smooth rectifiers, learned and
// periodic laws. N is any number.

struct Elu {
  LAW("elu", elu, "x where x > 0, else a (e^x - 1)",
      "Clevert, Unterthiner, Hochreiter 2016, arXiv 1511.07289")
  LAW_PARAMETERS({"a", 1.0, false})
  LAW_VALUE { return Positive(x, x, p[0] * Expm1(x)); }
};

struct Selu {
  LAW("selu", elu, "1.0507 x where x > 0, else 1.0507 * 1.6733 (e^x - 1)",
      "Klambauer et al. 2017, arXiv 1706.02515")
  LAW_VALUE { return Positive(x, x, Expm1(x) * 1.6732632423543772) * 1.0507009873554805; }
};

struct Celu {
  LAW("celu", elu, "max(0, x) + min(0, a (e^(x/a) - 1))", "Barron 2017, arXiv 1704.07483")
  LAW_PARAMETERS({"a", 1.0, false})
  LAW_VALUE { return Positive(x, x, p[0] * Expm1(x / p[0])); }
};

struct Pelu {
  LAW("pelu", elu, "(a / b) x where x > 0, else a (e^(x/b) - 1)",
      "Trottier, Giguere, Chaib-draa 2017, arXiv 1605.09332")
  LAW_PARAMETERS({"a", 1.0, true}, {"b", 1.0, true})
  LAW_VALUE {
    const N u = x / p[1];
    return p[0] * Positive(x, u, Expm1(u));
  }
};

struct Mpelu {
  LAW("mpelu", elu, "x where x > 0, else a (e^(b x) - 1)", "Li et al. 2018, arXiv 1606.00305")
  LAW_PARAMETERS({"a", 1.0, true}, {"b", 1.0, true})
  LAW_VALUE { return Positive(x, x, p[0] * Expm1(p[1] * x)); }
};

struct Felu {
  LAW("felu", elu, "x where x > 0, else a (2^(x / ln 2) - 1)", "Qiumei, Dan, Fenghua 2019")
  LAW_PARAMETERS({"a", 1.0, true})
  LAW_VALUE { return Positive(x, x, p[0] * Expm1(x)); }
};

struct Pdelu {
  LAW("pdelu", elu, "x where x > 0, else a (max(1 + (1 - t) x, 0)^(1 / (1 - t)) - 1)",
      "Cheng et al. 2020, Parametric Deformable ELU")
  LAW_PARAMETERS({"a", 1.0, true}, {"t", 0.9, false})
  LAW_VALUE {
    const N c = 1.0 - p[1];
    const N log = Log1p(AtLeast(c * AtMost(x, 0.0), -0.99999994)) / c;
    return Positive(x, x, p[0] * Expm1(log));
  }
};

struct Preu {
  LAW("preu", elu, "a x where x > 0, else a x e^(b x) (our reading)", "Ying et al. 2019")
  LAW_PARAMETERS({"a", 1.0, true}, {"b", 1.0, true})
  LAW_VALUE { return p[0] * x * Positive(x, Constant(x, 1.0), Exp(p[1] * AtMost(x, 0.0))); }
};

struct Softplus_ {
  LAW("softplus", elu, "ln(1 + e^x)", "Dugas et al. 2001")
  LAW_VALUE { return Softplus(x); }
};

struct ParametricSoftplus {
  LAW("parametric_softplus", elu, "a (ln(1 + e^x) - b) (our reading)",
      "Dubey, Singh, Chaudhuri 2022, arXiv 2109.14545")
  LAW_PARAMETERS({"a", 1.5, true}, {"b", 0.6931471805599453, true})
  LAW_VALUE { return p[0] * (Softplus(x) - p[1]); }
};

struct Silu {
  LAW("silu", sigmoid, "x / (1 + e^-x)", "Elfwing, Uchibe, Doya 2018, arXiv 1702.03118")
  LAW_VALUE { return x * Sigmoid(x); }
};

struct Swish {
  LAW("swish", learned, "x / (1 + e^(-b x))", "Ramachandran, Zoph, Le 2017, arXiv 1710.05941")
  LAW_PARAMETERS({"b", 1.0, true})
  LAW_VALUE { return x * Sigmoid(p[0] * x); }
};

struct Eswish {
  LAW("eswish", learned, "b x / (1 + e^-x)", "Alcaide 2018, arXiv 1801.07145")
  LAW_PARAMETERS({"b", 1.375, false})
  LAW_VALUE { return p[0] * x * Sigmoid(x); }
};

struct QuickGelu {
  LAW("quick_gelu", other, "x / (1 + e^(-1.702 x))", "Hendrycks and Gimpel 2016, arXiv 1606.08415")
  LAW_VALUE { return x * Sigmoid(x * 1.702); }
};

struct HardSwish {
  LAW("hard_swish", learned, "x min(max(x + 3, 0), 6) / 6", "Howard et al. 2019, arXiv 1905.02244")
  LAW_VALUE { return x * AtMost(Relu(x + 3.0), 6.0) * (1.0 / 6.0); }
};

struct Gelu {
  LAW("gelu", other, "x Phi(x), Phi the normal distribution function",
      "Hendrycks and Gimpel 2016, arXiv 1606.08415")
  LAW_VALUE { return x * NormalCdf(x); }
};

struct GeluTanh {
  LAW("gelu_tanh", other, "x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2",
      "Hendrycks and Gimpel 2016, arXiv 1606.08415")
  LAW_VALUE {  // (1 + tanh u) / 2 = sigmoid(2 u)
    return x * Sigmoid((x * x * 0.044715 + 1.0) * x * 1.5957691216057308);
  }
};

struct Sgelu {
  LAW("sgelu", other, "a x erf(x / sqrt 2)", "Yu and Su 2019, arXiv 1911.03925")
  LAW_PARAMETERS({"a", 1.0, false})
  LAW_VALUE { return p[0] * x * Erf(x * 0.7071067811865476); }
};

struct Mish {
  LAW("mish", other, "x tanh(ln(1 + e^x))", "Misra 2019, arXiv 1908.08681")
  LAW_VALUE {  // one exponential: tanh(ln(1 + e)) = n / (n + 2), n = e (e + 2)
    const N e = Exp(AtMost(x, 20.0)), n = e * (e + 2.0);
    return x * (n / (n + 2.0));
  }
};

struct Lisht {
  LAW("lisht", sigmoid, "x tanh x", "Roy et al. 2019, arXiv 1901.05894")
  LAW_VALUE { return x * Tanh(x); }
};

struct TanhExp {
  LAW("tanhexp", other, "x tanh(e^x)", "Liu and Di 2020, arXiv 2003.09855")
  LAW_VALUE { return x * Tanh(Exp(AtMost(x, 4.0))); }
};

struct Colu {
  LAW("colu", other, "x / (1 - x e^-(x + e^x))", "Vagerwal 2021, arXiv 2112.12078")
  LAW_VALUE {  // the exponential that stays small on each side
    const N u = AtMost(x, 6.0);
    const N w = u + Exp(u), e = Exp(Positive(x, w * -1.0, w));
    return Positive(x, x / (1.0 - x * e), x * e / (e - AtMost(x, 0.0)));
  }
};

struct Pflu {
  LAW("pflu", learned, "x (1 + x / sqrt(1 + x^2)) / 2", "Zhu et al. 2021")
  LAW_VALUE {  // (r + x) = 1 / (r - x) on the left, where the sum cancels
    const N r = Sqrt(x * x + 1.0);
    return x * 0.5 * Positive(x, (r + x) / r, 1.0 / (r * (r + Abs(x))));
  }
};

struct Fpflu {
  LAW("fpflu", learned, "x where x > 0, else x + x^2 / sqrt(1 + x^2) (our reading)",
      "Zhu et al. 2021")
  LAW_VALUE {
    const N r = Sqrt(x * x + 1.0);
    return Positive(x, x, x / (r * (r + Abs(x))));
  }
};

struct Gcu {
  LAW("gcu", other, "x cos x", "Noel et al. 2021, arXiv 2108.12943")
  LAW_VALUE { return x * Cos(x); }
};

struct Sine {
  LAW("sine", other, "sin x", "Parascandolo, Huttunen, Virtanen 2017")
  LAW_VALUE { return Sin(x); }
};

/// The coefficients that fit leaky ReLU on [-3, 3] best.
#define PAU_COEFFICIENTS                                                                          \
  LAW_PARAMETERS({"a0", 0.0335583603, true}, {"a1", 0.505000375, true}, {"a2", 1.65343934, true}, \
                 {"a3", 2.01001052, true}, {"a4", 0.931901999, true}, {"a5", 0.152424124, true},  \
                 {"b1", 3.30847488e-06, true}, {"b2", 3.98021568, true},                          \
                 {"b3", 5.12471206e-07, true}, {"b4", 0.301830109, true})

template <class N>
LAW_INLINE N PauNumerator(const N& x, const N* p) {
  return ((((p[5] * x + p[4]) * x + p[3]) * x + p[2]) * x + p[1]) * x + p[0];
}

struct Pau {
  LAW("pau", learned, "sum a_j x^j / (1 + |sum b_k x^k|), j = 0..5, k = 1..4",
      "Molina, Schramowski, Kersting 2020, arXiv 1907.06732")
  PAU_COEFFICIENTS
  LAW_VALUE {
    const N s = (((p[9] * x + p[8]) * x + p[7]) * x + p[6]) * x;
    return PauNumerator(x, p) / (Abs(s) + 1.0);
  }
};

struct PauTerms {
  LAW("pau_terms", learned, "sum a_j x^j / (1 + sum |b_k x^k|), j = 0..5, k = 1..4",
      "Molina, Schramowski, Kersting 2020, their code and the survey's")
  PAU_COEFFICIENTS
  LAW_VALUE {
    const N z = Abs(x);
    const N s = (((Abs(p[9]) * z + Abs(p[8])) * z + Abs(p[7])) * z + Abs(p[6])) * z;
    return PauNumerator(x, p) / (s + 1.0);
  }
};
#undef PAU_COEFFICIENTS

using ExponentialLaws =
    Laws<Elu, Selu, Celu, Pelu, Mpelu, Felu, Pdelu, Preu, Softplus_, ParametricSoftplus>;
using AdaptiveLaws = Laws<Silu, Swish, Eswish, QuickGelu, HardSwish, Gelu, GeluTanh, Sgelu, Mish,
                          Lisht, TanhExp, Colu, Pflu, Fpflu, Gcu, Sine, Pau, PauTerms>;
