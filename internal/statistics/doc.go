// Package statistics describes series of measurements: moments, percentiles and confidence intervals, in bounded memory.
//
// Methods. Mean and variance are updated value by value (Welford) and merged in pairs (Chan, Golub, LeVeque), so they are exact
// for any count. Standard deviation and coefficient of variation use the population form (divisor n), as SeBS prints them.
// Percentiles interpolate linearly between the closest ranks (rank 1 + p·(n−1), the default of NumPy and R's type 7). A series
// keeps its values up to a limit; beyond it the values go to a histogram whose buckets are 1/1024 of a power of two wide, and order
// statistics are then within 0.05 % of the true value, which [Series.Exact] tells.
//
// Intervals. Student's interval is about the mean and uses the sample standard deviation (divisor n−1). The interval about the median
// comes from order statistics: J.-Y. Le Boudec, "Performance Evaluation of Computer and Communication Systems", EPFL Press 2010,
// theorem 2.1: with ranks counted from one, [x(j), x(k)] covers the median with probability B(k−1) − B(j−1), B being the binomial
// distribution with n draws and p = 1/2. SeBS uses the large-n ranks of that book as zero-based indexes, which moves its interval up by
// one sample; here ranks are one-based and taken from the binomial distribution itself while n is small.
package statistics
