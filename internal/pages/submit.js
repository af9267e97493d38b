const form = document.forms.handover, answer = form.elements[0]
form.submit()
answer.value = ""
