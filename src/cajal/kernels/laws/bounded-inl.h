// Included inside a namespace after dual-inl.h: the sigmoid and tanh family. N is any number.

struct Sigmoid_ {
  LAW("sigmoid", sigmoid, "1 / (1 + e^-x)", "LeCun et al. 1998, Efficient BackProp")
  LAW_VALUE { return Sigmoid(x); }
};

struct Tanh_ {
  LAW("tanh", sigmoid, "tanh x", "LeCun et al. 1998, Efficient BackProp")
  LAW_VALUE { return Tanh(x); }
};

struct Elliott {
  LAW("elliott", sigmoid, "0.5 x / (1 + |x|) + 0.5", "Elliott 1993")
  LAW_VALUE {  // written so that the left tail keeps its digits
    const N right = Relu(x);
    return Positive(x, (right + 0.5) / (right + 1.0), 0.5 / (1.0 - AtMost(x, 0.0)));
  }
};

struct ScaledTanh {
  LAW("scaled_tanh", sigmoid, "a tanh(b x)", "LeCun et al. 1998, Efficient BackProp")
  LAW_PARAMETERS({"a", 1.7159, false}, {"b", 2.0 / 3.0, false})
  LAW_VALUE { return p[0] * Tanh(p[1] * x); }
};

struct ParametricSigmoid {
  LAW("parametric_sigmoid", sigmoid, "(1 / (1 + e^-x))^m", "Chandra and Singh 2004")
  LAW_PARAMETERS({"m", 1.0, true})
  LAW_VALUE { return Exp(p[0] * Softplus(x * -1.0) * -1.0); }
};

struct ScaledSigmoid {
  LAW("scaled_sigmoid", sigmoid, "4 / (1 + e^-x) - 2", "Xu, Huang, Li 2016, arXiv 1602.05980")
  LAW_VALUE { return Tanh(x * 0.5) * 2.0; }
};

struct PenalizedTanh {
  LAW("penalized_tanh", sigmoid, "tanh x where x > 0, else slope tanh x",
      "Xu, Huang, Li 2016, arXiv 1602.05980")
  LAW_PARAMETERS({"slope", 0.25, false})
  LAW_VALUE {
    const N t = Tanh(x);
    return Positive(x, t, p[0] * t);
  }
};

struct ReSech {
  LAW("resech", sigmoid, "x sech x", "Njikam and Zhao 2016")
  LAW_VALUE {
    const N e = Exp(Abs(x) * -1.0);
    return x * e * 2.0 / (e * e + 1.0);
  }
};

struct ImprovedSigmoid {
  LAW("improved_sigmoid", sigmoid,
      "1 / (1 + e^-x) for |x| < a, beyond it a line of slope alpha from there (our reading)",
      "Qin, Wang, Zou 2018")
  LAW_PARAMETERS({"a", 2.0, false}, {"alpha", 0.1, false})
  LAW_VALUE {
    const N middle = Sigmoid(x), high = Sigmoid(p[0]), low = Sigmoid(p[0] * -1.0);
    return Positive(x - p[0], p[1] * (x - p[0]) + high,
                    Positive((x + p[0]) * -1.0, p[1] * (x + p[0]) + low, middle));
  }
};

struct Hexpo {
  LAW("hexpo", sigmoid, "-a (e^(-x/b) - 1) where x > 0, else c (e^(x/d) - 1)",
      "Kong and Takatsuka 2017")
  LAW_PARAMETERS({"a", 1.0, false}, {"b", 1.0, false}, {"c", 1.0, false}, {"d", 1.0, false})
  LAW_VALUE {
    return Positive(x, p[0] * Expm1(Relu(x) / p[1] * -1.0) * -1.0,
                    p[2] * Expm1(AtMost(x, 0.0) / p[3]));
  }
};

struct DSilu {
  LAW("dsilu", sigmoid, "s (1 + x (1 - s)), s = 1 / (1 + e^-x)",
      "Elfwing, Uchibe, Doya 2018, arXiv 1702.03118")
  LAW_VALUE {
    const N s = Sigmoid(x);
    return s * (x * Sigmoid(x * -1.0) + 1.0);
  }
};

struct HardSigmoid {
  LAW("hard_sigmoid", sigmoid, "min(max(x + 3, 0), 6) / 6", "Howard et al. 2019, arXiv 1905.02244")
  LAW_VALUE { return AtMost(Relu(x + 3.0), 6.0) * (1.0 / 6.0); }
};

struct HardTanh {
  LAW("hard_tanh", sigmoid, "min(max(x, -1), 1)", "Collobert 2004")
  LAW_VALUE { return AtMost(AtLeast(x, -1.0), 1.0); }
};

struct Softsign {
  LAW("softsign", sigmoid, "x / (1 + |x|)", "Turian, Bergstra, Bengio 2009")
  LAW_VALUE { return x / (Abs(x) + 1.0); }
};

struct Rootsig {
  LAW("rootsig", sigmoid, "x / (1 + |x|), the survey's other name of softsign",
      "Duch and Jankowski 1999")
  LAW_VALUE { return x / (Abs(x) + 1.0); }
};

struct Arctan {
  LAW("arctan", sigmoid, "atan x", "Campolucci et al. 1996")
  LAW_VALUE { return Atan(x); }
};

struct SoftRootSign {
  LAW("srs", sigmoid, "x / (x / a + e^(-x / b))", "Li and Zhou 2020, arXiv 2003.01495")
  LAW_PARAMETERS({"a", 5.0, true}, {"b", 3.0, true})
  LAW_VALUE {  // both sides divided by the exponential that stays small
    const N e = Exp(Abs(x) / p[1] * -1.0);
    return Positive(x, x / (x / p[0] + e), x * e / (x * e / p[0] + 1.0));
  }
};

struct GuardedSoftRootSign {
  LAW("srs_guarded", sigmoid,
      "x / (0.01 + x / (|a| + 0.01) + e^(-x / (|b| + 0.01))), as the survey's code has it",
      "Dubey, Singh, Chaudhuri 2022, their code")
  LAW_PARAMETERS({"a", 10.0, true}, {"b", 10.0, true})
  LAW_VALUE {
    const N a = Abs(p[0]) + 0.01, e = Exp(Abs(x) / (Abs(p[1]) + 0.01) * -1.0);
    const N rest = x / a + 0.01;
    return Positive(x, x / (rest + e), x * e / (rest * e + 1.0));
  }
};

using BoundedLaws = Laws<Sigmoid_, Tanh_, Elliott, ScaledTanh, ParametricSigmoid, ScaledSigmoid,
                         PenalizedTanh, ReSech, ImprovedSigmoid, Hexpo, DSilu, HardSigmoid,
                         HardTanh, Softsign, Rootsig, Arctan, SoftRootSign, GuardedSoftRootSign>;
