// Included inside a namespace after dual-inl.h: the ReLU family. N is any number.

struct Identity {
  LAW("identity", other, "x", "no activation, the floor of comparisons")
  LAW_VALUE { return x; }
};

struct Relu_ {
  LAW("relu", relu, "max(x, 0)", "Nair and Hinton 2010")
  LAW_VALUE { return Relu(x); }
};

struct Relu2 {
  LAW("relu2", relu, "max(x, 0)^2", "So et al. 2021, arXiv 2109.08668")
  LAW_VALUE {
    const N r = Relu(x);
    return r * r;
  }
};

struct Repu {
  LAW("repu", relu, "max(x, 0)^k", "Li, Tang, Yu 2020, arXiv 1903.05858")
  LAW_PARAMETERS({"k", 2.0, false})
  LAW_VALUE {
    return Positive(x, Exp(p[0] * Log(Positive(x, x, Constant(x, 1.0)))), Constant(x, 0.0));
  }
};

struct Relu6 {
  LAW("relu6", relu, "min(max(x, 0), 6)", "Krizhevsky 2010")
  LAW_VALUE { return AtMost(Relu(x), 6.0); }
};

struct LeakyRelu {
  LAW("leaky_relu", relu, "x where x > 0, else slope x", "Maas, Hannun, Ng 2013")
  LAW_PARAMETERS({"slope", 0.01, false})
  LAW_VALUE { return Positive(x, x, p[0] * x); }
};

struct Prelu {
  LAW("prelu", relu, "x where x > 0, else slope x", "He et al. 2015, arXiv 1502.01852")
  LAW_PARAMETERS({"slope", 0.25, true})
  LAW_VALUE { return Positive(x, x, p[0] * x); }
};

struct BoundedRelu {
  LAW("bounded_relu", relu, "min(max(x, 0), bound)", "Liew, Khalil-Hani, Bakhteri 2016")
  LAW_PARAMETERS({"bound", 1.0, false})
  LAW_VALUE {
    const N r = Relu(x);
    return Positive(r - p[0], p[0], r);
  }
};

struct BoundedLeakyRelu {
  LAW("bounded_leaky_relu", relu,
      "slope x where x <= 0, x up to bound, beyond it bound + slope (x - bound)",
      "Liew, Khalil-Hani, Bakhteri 2016")
  LAW_PARAMETERS({"bound", 1.0, false}, {"slope", 0.01, false})
  LAW_VALUE { return Positive(x - p[0], p[1] * (x - p[0]) + p[0], Positive(x, x, p[1] * x)); }
};

struct Ptelu {
  LAW("ptelu", relu, "x where x > 0, else a tanh(b x)", "Duggal and Gupta 2017")
  LAW_PARAMETERS({"a", 1.0, true}, {"b", 1.0, true})
  LAW_VALUE { return Positive(x, x, p[0] * Tanh(p[1] * x)); }
};

struct Frelu {
  LAW("frelu", relu, "max(x, 0) + b", "Qiu, Xu, Cai 2018, arXiv 1706.08098")
  LAW_PARAMETERS({"b", 0.0, true})
  LAW_VALUE { return Relu(x) + p[0]; }
};

struct Disrelu {
  LAW("disrelu", relu, "max(x, -d)", "Macedo et al. 2019")
  LAW_PARAMETERS({"d", 1.0, false})
  LAW_VALUE { return Positive(x + p[0], x, p[0] * -1.0); }
};

struct Nlrelu {
  LAW("nlrelu", relu, "ln(1 + b max(x, 0))", "Liu et al. 2019, arXiv 1908.03682")
  LAW_PARAMETERS({"b", 1.0, false})
  LAW_VALUE { return Log1p(p[0] * Relu(x)); }
};

struct Slu {
  LAW("slu", relu, "x where x > 0, else 2 ln((e^x + 1) / 2)", "Zhao, Liu, Li 2018")
  LAW_VALUE { return Positive(x, x, Log1p(Expm1(AtMost(x, 0.0)) * 0.5) * 2.0); }
};

struct Resp {
  LAW("resp", relu, "a x + ln 2 where x > 0, else ln(1 + e^x)", "Xu et al. 2020")
  LAW_PARAMETERS({"a", 1.0, true})
  LAW_VALUE { return Positive(x, p[0] * x + 0.6931471805599453, Softplus(x)); }
};

struct Vrelu {
  LAW("vrelu", relu, "|x|", "Hu, Liu, Wang 2018")
  LAW_VALUE { return Abs(x); }
};

struct Ftswish {
  LAW("ftswish", relu, "max(x, 0) / (1 + e^-x) + t", "Chieng et al. 2018, arXiv 1812.06247")
  LAW_PARAMETERS({"t", -0.2, false})
  LAW_VALUE { return Relu(x) * Sigmoid(x) + p[0]; }
};

struct Srelu {
  LAW("s_relu", relu, "tr + ar (x - tr) where x >= tr, tl + al (x - tl) where x <= tl, else x",
      "Jin et al. 2016, arXiv 1512.07030")
  LAW_PARAMETERS({"tr", 1.0, true}, {"ar", 1.0, true}, {"tl", 0.0, true}, {"al", 0.2, true})
  LAW_VALUE {
    return Positive(x - p[0], p[0] + p[1] * (x - p[0]),
                    Positive(p[2] - x, p[2] + p[3] * (x - p[2]), x));
  }
};

using RectifiedLaws =
    Laws<Identity, Relu_, Relu2, Repu, Relu6, LeakyRelu, Prelu, BoundedRelu, BoundedLeakyRelu,
         Ptelu, Frelu, Disrelu, Nlrelu, Slu, Resp, Vrelu, Ftswish, Srelu>;
