// Package lambdalog reads what AWS Lambda writes about single invocations: the REPORT
// lines of its plain logs and the platform.report records of its JSON logs, out of a log
// tail or out of CloudWatch Logs Insights.
package lambdalog
