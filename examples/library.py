"""Twenty lines: two classes leave a digits classifier one after another, one comes back."""

from expunge.aggregation import Sum
from expunge.audit.course import follow
from expunge.audit.measure import Panel
from expunge.benchmarks.shipped import digits_classifier_work
from expunge.deployment import Deployment
from expunge.methods.gradient_difference import GradientDifference
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run

work = digits_classifier_work()  # a recipe and its rows; bring your own module and rows instead
model = work.recipe.make(work.data, Run()).model
deployment = Deployment(model, work.recipe.family, work.data[Role.TRAIN], work.table, Sum())
requests = [Request(f"digit {c}", Rows("label", (str(c),))) for c in (8, 3)]
panel = Panel.of(work.test, work.test_table, requests)
course = follow(deployment, requests, GradientDifference(4, 5e-4), panel, Run())
print(course.matrix().after.round(2))  # row t, column j: accuracy on request j after step t
print([round(float(r), 2) for r in course.retained()])  # everything else, before and after each
deployment.revoke(requests[1])  # retain-term vectors: the latest first; negated ones: any
