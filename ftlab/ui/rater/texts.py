"""The texts of the raters' page in its languages. The English text is the key, in the code as in the table.

What the owner typed, questions and answers are never translated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from ftlab.arena.store import NOTHING_CHANGED
from ftlab.errors import sentence

# The tag of each language, as in `lang`, and its name for its speakers. English is the fallback and the key below.
LANGUAGES = {"en": "English", "de": "Deutsch", "fr": "Français", "es": "Español", "zh-Hans": "简体中文"}
_OTHERS = tuple(LANGUAGES)[1:]

Rows = dict[str, tuple[str, str, str, str]]  # German, French, Spanish, Chinese

# What the page says by itself: before the server answers, and when it does not.
OF_THE_BROWSER: Rows = {
    "Compare answers": ("Antworten vergleichen", "Comparer des réponses", "Comparar respuestas", "比较回答"),
    "One moment.": ("Einen Moment bitte.", "Un instant…", "Un momento…", "请稍候。"),
    "Show answers as written": (
        "Antworten im Rohtext anzeigen",
        "Afficher les réponses en texte brut",
        "Mostrar las respuestas en texto sin formato",
        "显示回答原文",
    ),
    "Use keys to vote": (
        "Mit der Tastatur abstimmen",
        "Voter au clavier",
        "Votar con el teclado",
        "用键盘投票",
    ),
    "Light / dark": ("Hell / dunkel", "Clair / sombre", "Claro / oscuro", "浅色 / 深色"),
    "Language": ("Sprache", "Langue", "Idioma", "语言"),
    "No connection. Your vote is kept on this device and is sent when the connection is back.": (
        "Keine Verbindung. Ihre Stimme bleibt auf diesem Gerät gespeichert und wird gesendet, sobald die Verbindung "
        "wieder da ist.",
        "Pas de connexion. Votre vote est conservé sur cet appareil et sera envoyé dès que la connexion sera rétablie.",
        "Sin conexión. Su voto queda guardado en este dispositivo y se enviará cuando vuelva la conexión.",
        "没有网络连接。您的投票已保存在本设备上，连接恢复后会自动发送。",
    ),
    "No connection. Keep this page open: your vote is sent when the connection is back.": (
        "Keine Verbindung. Lassen Sie diese Seite geöffnet: Ihre Stimme wird gesendet, sobald die Verbindung wieder "
        "da ist.",
        "Pas de connexion. Gardez cette page ouverte : votre vote sera envoyé dès que la connexion sera rétablie.",
        "Sin conexión. Mantenga abierta esta página: su voto se enviará cuando vuelva la conexión.",
        "没有网络连接。请不要关闭此页面，连接恢复后会自动发送您的投票。",
    ),
    "No connection, so this was not sent. Votes that were saved are safe.": (
        "Keine Verbindung, daher wurde dies nicht gesendet. Gespeicherte Stimmen gehen nicht verloren.",
        "Pas de connexion : rien n’a été envoyé. Les votes déjà enregistrés sont conservés.",
        "Sin conexión: no se ha enviado. Los votos ya guardados no se pierden.",
        "没有网络连接，因此未能发送。已保存的投票不会丢失。",
    ),
    "Try again": ("Erneut versuchen", "Réessayer", "Reintentar", "重试"),
}

# What the server says: its screens, and its errors as the modules of the arena raise them.
OF_THE_SERVER: Rows = {
    # A comparison
    "A is better": ("A ist besser", "A est meilleure", "A es mejor", "A 更好"),
    "B is better": ("B ist besser", "B est meilleure", "B es mejor", "B 更好"),
    "Both good": ("Beide gut", "Les deux bonnes", "Ambas buenas", "都好"),
    "Both bad": ("Beide schlecht", "Les deux mauvaises", "Ambas malas", "都不好"),
    "Skip": ("Auslassen", "Passer", "Omitir", "跳过"),
    "Your vote": ("Ihre Stimme", "Votre vote", "Su voto", "您的投票"),
    "Answer A": ("Antwort A", "Réponse A", "Respuesta A", "回答 A"),
    "Answer B": ("Antwort B", "Réponse B", "Respuesta B", "回答 B"),
    "Conversation A": ("Gespräch A", "Conversation A", "Conversación A", "对话 A"),
    "Conversation B": ("Gespräch B", "Conversation B", "Conversación B", "对话 B"),
    "Answer": ("Antwort", "Réponse", "Respuesta", "回答"),
    "The question": ("Die Frage", "La question", "La pregunta", "问题内容"),
    "Question": ("Frage", "Question", "Pregunta", "问题"),
    "Instruction": ("Anweisung", "Consigne", "Instrucción", "指令"),
    "Earlier answer": ("Frühere Antwort", "Réponse précédente", "Respuesta anterior", "之前的回答"),
    "Person": ("Person", "Personne", "Persona", "用户"),
    "What to look for": ("Worauf es ankommt", "Ce qui compte", "En qué fijarse", "评判要点"),
    "These answers differ only in how they are typed, so both are shown as written.": (
        "Diese Antworten unterscheiden sich nur in der Schreibweise, daher werden beide im Rohtext angezeigt.",
        "Ces réponses ne diffèrent que par leur saisie : toutes deux sont affichées en texte brut.",
        "Estas respuestas solo difieren en cómo están escritas, por lo que ambas se muestran en texto sin formato.",
        "这两个回答仅在书写格式上不同，因此均显示原文。",
    ),
    "Some of these answers differ only in how they are typed, so all are shown as written.": (
        "Einige dieser Antworten unterscheiden sich nur in der Schreibweise, daher werden alle im Rohtext angezeigt.",
        "Certaines de ces réponses ne diffèrent que par leur saisie : toutes sont affichées en texte brut.",
        "Algunas de estas respuestas solo difieren en cómo están escritas, por lo que todas se muestran en texto sin "
        "formato.",
        "其中一些回答仅在书写格式上不同，因此所有回答均显示原文。",
    ),
    "This answer is empty.": (
        "Diese Antwort ist leer.",
        "Cette réponse est vide.",
        "Esta respuesta está vacía.",
        "此回答为空。",
    ),
    "Comment (optional)": (
        "Kommentar (freiwillig)",
        "Commentaire (facultatif)",
        "Comentario (opcional)",
        "评论（选填）",
    ),
    "Comment": ("Kommentar", "Commentaire", "Comentario", "评论"),
    "Aspects and comment": (
        "Kriterien und Kommentar",
        "Critères et commentaire",
        "Criterios y comentario",
        "分项评价与评论",
    ),
    "Correctness": ("Richtigkeit", "Exactitude", "Corrección", "正确性"),
    "Completeness": ("Vollständigkeit", "Exhaustivité", "Exhaustividad", "完整性"),
    "Style": ("Stil", "Style", "Estilo", "文风"),
    "Safety": ("Sicherheit", "Sécurité", "Seguridad", "安全性"),
    "Same": ("Gleich", "Égales", "Igual", "相同"),
    "Comparison {number} of {total}": (
        "Vergleich {number} von {total}",
        "Comparaison {number} sur {total}",
        "Comparación {number} de {total}",
        "第 {number} 组，共 {total} 组",
    ),
    "Comparisons judged: {number} of {total}": (
        "Bewertete Vergleiche: {number} von {total}",
        "Comparaisons évaluées : {number} sur {total}",
        "Comparaciones evaluadas: {number} de {total}",
        "已评判：{number} 组，共 {total} 组",
    ),
    "Undo last vote": (
        "Stimme zurücknehmen",
        "Annuler le dernier vote",
        "Deshacer el último voto",
        "撤销上一票",
    ),
    "Vote saved.": ("Stimme gespeichert.", "Vote enregistré.", "Voto guardado.", "投票已保存。"),
    "Your last vote was undone. You can vote on this comparison again.": (
        "Ihre letzte Stimme wurde zurückgenommen. Sie können über diesen Vergleich erneut abstimmen.",
        "Votre dernier vote a été annulé. Vous pouvez voter de nouveau sur cette comparaison.",
        "Su último voto se ha deshecho. Puede volver a votar en esta comparación.",
        "已撤销您的上一票。您可以对这一组重新投票。",
    ),
    "The next comparison cannot be shown: {reason}": (
        "Der nächste Vergleich kann nicht angezeigt werden: {reason}",
        "La comparaison suivante ne peut pas être affichée : {reason}",
        "No se puede mostrar la siguiente comparación: {reason}",
        "无法显示下一组：{reason}",
    ),
    # The guess after the last vote
    "Your votes are saved. A last guess: which answer comes from the newly trained model?": (
        "Ihre Stimmen sind gespeichert. Zum Schluss: Welche Antwort stammt vermutlich vom neu trainierten Modell?",
        "Vos votes sont enregistrés. Pour finir : à votre avis, quelle réponse vient du modèle nouvellement entraîné ?",
        "Sus votos están guardados. Para terminar: ¿qué respuesta cree que es del modelo recién entrenado?",
        "您的投票已保存。最后请您猜一猜：哪个回答来自新训练的模型？",
    ),
    "Your votes are saved. A last guess: which conversation is with the newly trained model?": (
        "Ihre Stimmen sind gespeichert. Zum Schluss: Welches Gespräch wurde vermutlich mit dem neu trainierten Modell "
        "geführt?",
        "Vos votes sont enregistrés. Pour finir : à votre avis, quelle conversation est menée avec le modèle "
        "nouvellement entraîné ?",
        "Sus votos están guardados. Para terminar: ¿qué conversación cree que es con el modelo recién entrenado?",
        "您的投票已保存。最后请您猜一猜：哪段对话来自新训练的模型？",
    ),
    "No idea": ("Keine Ahnung", "Aucune idée", "Ni idea", "不知道"),
    # The introduction
    "You see two conversations with the same questions, and choose the better one.": (
        "Sie sehen zwei Gespräche mit denselben Fragen und wählen das bessere aus.",
        "Vous voyez deux conversations avec les mêmes questions et choisissez la meilleure.",
        "Verá dos conversaciones con las mismas preguntas y elegirá la mejor.",
        "您将看到两段问题相同的对话，请选出更好的一段。",
    ),
    "You see {count} pairs of conversations with the same questions, and choose the better one of each.": (
        "Sie sehen {count} Paare von Gesprächen mit denselben Fragen und wählen jeweils das bessere aus.",
        "Vous voyez {count} paires de conversations avec les mêmes questions et choisissez chaque fois la meilleure.",
        "Verá {count} pares de conversaciones con las mismas preguntas y elegirá la mejor de cada par.",
        "您将看到 {count} 组对话，每组两段对话的问题相同，请从每组中选出更好的一段。",
    ),
    "You see up to {count} pairs of conversations with the same questions, and choose the better one of each.": (
        "Sie sehen bis zu {count} Paare von Gesprächen mit denselben Fragen und wählen jeweils das bessere aus.",
        "Vous voyez jusqu’à {count} paires de conversations avec les mêmes questions et choisissez chaque fois la "
        "meilleure.",
        "Verá hasta {count} pares de conversaciones con las mismas preguntas y elegirá la mejor de cada par.",
        "您最多将看到 {count} 组对话，每组两段对话的问题相同，请从每组中选出更好的一段。",
    ),
    "You see one question with two answers, and choose the better one.": (
        "Sie sehen eine Frage mit zwei Antworten und wählen die bessere aus.",
        "Vous voyez une question avec deux réponses et choisissez la meilleure.",
        "Verá una pregunta con dos respuestas y elegirá la mejor.",
        "您将看到一个问题和两个回答，请选出更好的一个。",
    ),
    "You see {count} questions, each with two answers, and choose the better one.": (
        "Sie sehen {count} Fragen mit je zwei Antworten und wählen jeweils die bessere aus.",
        "Vous voyez {count} questions, chacune avec deux réponses, et choisissez la meilleure.",
        "Verá {count} preguntas, cada una con dos respuestas, y elegirá la mejor.",
        "您将看到 {count} 个问题，每个问题有两个回答，请选出更好的一个。",
    ),
    "You see up to {count} questions, each with two answers, and choose the better one.": (
        "Sie sehen bis zu {count} Fragen mit je zwei Antworten und wählen jeweils die bessere aus.",
        "Vous voyez jusqu’à {count} questions, chacune avec deux réponses, et choisissez la meilleure.",
        "Verá hasta {count} preguntas, cada una con dos respuestas, y elegirá la mejor.",
        "您最多将看到 {count} 个问题，每个问题有两个回答，请选出更好的一个。",
    ),
    "About 1 minute.": (
        "Etwa 1 Minute.",
        "Environ 1 minute.",
        "Alrededor de 1 minuto.",
        "大约需要 1 分钟。",
    ),
    "About {count} minutes.": (
        "Etwa {count} Minuten.",
        "Environ {count} minutes.",
        "Unos {count} minutos.",
        "大约需要 {count} 分钟。",
    ),
    "You can stop and come back.": (
        "Sie können jederzeit unterbrechen und später weitermachen.",
        "Vous pouvez vous interrompre et reprendre plus tard.",
        "Puede interrumpirlo y continuar más tarde.",
        "您可以随时中断，稍后再继续。",
    ),
    "You ask questions, see two answers to each, and choose the better one.": (
        "Sie stellen Fragen, sehen je zwei Antworten und wählen jeweils die bessere aus.",
        "Vous posez des questions, voyez deux réponses à chacune et choisissez la meilleure.",
        "Usted hace preguntas, ve dos respuestas a cada una y elige la mejor.",
        "您来提问，每个问题会得到两个回答，请选出更好的一个。",
    ),
    "Your name or a nickname": (
        "Ihr Name oder ein Spitzname",
        "Votre nom ou un pseudonyme",
        "Su nombre o un apodo",
        "您的姓名或昵称",
    ),
    "Begin": ("Beginnen", "Commencer", "Empezar", "开始"),
    "Before you begin": ("Bevor Sie beginnen", "Avant de commencer", "Antes de empezar", "开始之前"),
    "I agree, begin": (
        "Ich stimme zu, beginnen",
        "J’accepte, commencer",
        "Acepto, empezar",
        "我同意，开始",
    ),
    # Questions of the rater's own
    "Ask both models": (
        "Beide Modelle fragen",
        "Interroger les deux modèles",
        "Preguntar a ambos modelos",
        "向两个模型提问",
    ),
    "Your question": ("Ihre Frage", "Votre question", "Su pregunta", "您的问题"),
    "Both answers appear together once complete. This can take a while.": (
        "Beide Antworten erscheinen gemeinsam, sobald sie vollständig sind. Das kann eine Weile dauern.",
        "Les deux réponses s’affichent ensemble une fois complètes. Cela peut prendre un moment.",
        "Las dos respuestas aparecen juntas cuando están completas. Puede tardar un poco.",
        "两个回答都完成后会同时显示，可能需要等待片刻。",
    ),
    "Ask both": ("Beide fragen", "Interroger les deux", "Preguntar a ambos", "向两者提问"),
    "Write a question for both models.": (
        "Schreiben Sie eine Frage an beide Modelle.",
        "Écrivez une question pour les deux modèles.",
        "Escriba una pregunta para ambos modelos.",
        "请写一个问题给两个模型。",
    ),
    "Both answers are here.": (
        "Beide Antworten sind da.",
        "Les deux réponses sont là.",
        "Las dos respuestas ya están aquí.",
        "两个回答都已显示。",
    ),
    "Both models gave the same answer. That counts as a tie; ask something else.": (
        "Beide Modelle haben dieselbe Antwort gegeben. Das zählt als Gleichstand; fragen Sie etwas anderes.",
        "Les deux modèles ont donné la même réponse. C’est une égalité ; posez une autre question.",
        "Ambos modelos han dado la misma respuesta. Cuenta como empate; pregunte otra cosa.",
        "两个模型给出了相同的回答，计为平局。请换一个问题。",
    ),
    # The end
    "Thank you": ("Vielen Dank", "Merci", "Gracias", "谢谢"),
    "You have no more comparisons. Your votes are saved, and you can close this page.": (
        "Sie haben keine weiteren Vergleiche. Ihre Stimmen sind gespeichert, und Sie können diese Seite schließen.",
        "Il ne vous reste aucune comparaison. Vos votes sont enregistrés et vous pouvez fermer cette page.",
        "No le quedan más comparaciones. Sus votos están guardados y puede cerrar esta página.",
        "您已完成所有比较。投票均已保存，可以关闭此页面。",
    ),
    "You have no more comparisons. Thank you.": (
        "Sie haben keine weiteren Vergleiche. Vielen Dank.",
        "Il ne vous reste aucune comparaison. Merci.",
        "No le quedan más comparaciones. Gracias.",
        "您已完成所有比较。谢谢。",
    ),
    "What happens next: once everyone has voted, the person who invited you will see which answers were preferred. "
    "Ask them for the result.": (
        "Wie es weitergeht: Sobald alle abgestimmt haben, sieht die Person, die Sie eingeladen hat, welche Antworten "
        "bevorzugt wurden. Fragen Sie sie nach dem Ergebnis.",
        "Et ensuite : une fois que tout le monde aura voté, la personne qui vous a invité verra quelles réponses ont "
        "été préférées. Demandez-lui le résultat.",
        "Qué ocurre después: cuando todos hayan votado, la persona que le invitó verá qué respuestas se prefirieron. "
        "Pídale el resultado.",
        "接下来：所有人投票结束后，邀请您的人会看到哪些回答更受青睐。您可以向其询问结果。",
    ),
    "Complete the study": ("Studie abschließen", "Terminer l’étude", "Finalizar el estudio", "完成研究"),
    "Your completion code:": (
        "Ihr Abschlusscode:",
        "Votre code de fin d’étude :",
        "Su código de finalización:",
        "您的完成代码：",
    ),
    # No way in
    "Look again": ("Erneut nachsehen", "Vérifier à nouveau", "Volver a comprobar", "重新查看"),
    "This page shows the first question as soon as voting begins.": (
        "Diese Seite zeigt die erste Frage, sobald die Abstimmung beginnt.",
        "Cette page affichera la première question dès le début du vote.",
        "Esta página mostrará la primera pregunta en cuanto empiece la votación.",
        "投票开始后，此页面会显示第一个问题。",
    ),
    "This page needs a link": (
        "Diese Seite braucht einen Link",
        "Cette page nécessite un lien",
        "Esta página necesita un enlace",
        "打开此页面需要链接",
    ),
    "ask the person who invited you for the link or the QR code, and open it here": (
        "Bitten Sie die Person, die Sie eingeladen hat, um den Link oder den QR-Code, und öffnen Sie ihn hier",
        "Demandez le lien ou le code QR à la personne qui vous a invité, puis ouvrez-le ici",
        "Pida el enlace o el código QR a la persona que le invitó y ábralo aquí",
        "请向邀请您的人索取链接或二维码，并在此打开",
    ),
    "This link is not valid": (
        "Dieser Link ist ungültig",
        "Ce lien n’est pas valide",
        "Este enlace no es válido",
        "此链接无效",
    ),
    "check that you copied all of it, or ask the person who invited you for a new one": (
        "Prüfen Sie, ob Sie ihn vollständig kopiert haben, oder bitten Sie die Person, die Sie eingeladen hat, um "
        "einen neuen",
        "Vérifiez que vous l’avez copié en entier, ou demandez-en un nouveau à la personne qui vous a invité",
        "Compruebe que lo ha copiado entero o pida uno nuevo a la persona que le invitó",
        "请检查链接是否复制完整，或向邀请您的人索取新链接",
    ),
    "This link was revoked": (
        "Dieser Link wurde widerrufen",
        "Ce lien a été révoqué",
        "Este enlace ha sido revocado",
        "此链接已被撤销",
    ),
    "ask the sender for a new one": (
        "Bitten Sie den Absender um einen neuen",
        "Demandez-en un nouveau à l’expéditeur",
        "Pida uno nuevo a quien se lo envió",
        "请向发送者索取新链接",
    ),
    "This test is over": (
        "Dieser Test ist beendet",
        "Ce test est terminé",
        "Esta prueba ha terminado",
        "此测试已结束",
    ),
    "ask whoever invited you for the result": (
        "Fragen Sie die Person, die Sie eingeladen hat, nach dem Ergebnis",
        "Demandez le résultat à la personne qui vous a invité",
        "Pida el resultado a la persona que le invitó",
        "请向邀请您的人询问结果",
    ),
    "This test has not started": (
        "Dieser Test hat noch nicht begonnen",
        "Ce test n’a pas encore commencé",
        "Esta prueba aún no ha empezado",
        "此测试尚未开始",
    ),
    "Your last vote is saved.": (
        "Ihre letzte Stimme ist gespeichert.",
        "Votre dernier vote est enregistré.",
        "Su último voto está guardado.",
        "您的最后一票已保存。",
    ),
    "Your last vote was not saved.": (
        "Ihre letzte Stimme wurde nicht gespeichert.",
        "Votre dernier vote n’a pas été enregistré.",
        "Su último voto no se ha guardado.",
        "您的最后一票未能保存。",
    ),
    "come back once it has started": (
        "Kommen Sie wieder, sobald er begonnen hat",
        "Revenez quand il aura commencé",
        "Vuelva cuando haya empezado",
        "请在测试开始后再来",
    ),
    "Please enter your name": (
        "Bitte geben Sie Ihren Namen ein",
        "Veuillez saisir votre nom",
        "Introduzca su nombre",
        "请输入您的姓名",
    ),
    "use any name that your host knows": (
        "Nehmen Sie einen Namen, den die einladende Person kennt",
        "Utilisez un nom que connaît la personne qui vous a invité",
        "Use un nombre que conozca la persona que le invitó",
        "请使用邀请您的人认识的名字",
    ),
    "This test has reached its maximum number of raters": (
        "Dieser Test hat die Höchstzahl an Teilnehmenden erreicht",
        "Ce test a atteint son nombre maximal de participants",
        "Esta prueba ha alcanzado su número máximo de participantes",
        "此测试的参与人数已达上限",
    ),
    "Too many people are joining this test right now": (
        "Gerade nehmen zu viele Personen gleichzeitig an diesem Test teil",
        "Trop de personnes rejoignent ce test en ce moment",
        "Demasiadas personas se están uniendo a esta prueba en este momento",
        "目前加入此测试的人过多",
    ),
    "again in a minute, or ask your host for your own link": (
        "Versuchen Sie es in einer Minute erneut, oder bitten Sie die einladende Person um einen eigenen Link",
        "Réessayez dans une minute, ou demandez un lien personnel à la personne qui vous a invité",
        "Vuelva a intentarlo dentro de un minuto o pida un enlace propio a la persona que le invitó",
        "请一分钟后再试，或向邀请您的人索取专属链接",
    ),
    "again in an hour, or ask your host for your own link": (
        "Versuchen Sie es in einer Stunde erneut, oder bitten Sie die einladende Person um einen eigenen Link",
        "Réessayez dans une heure, ou demandez un lien personnel à la personne qui vous a invité",
        "Vuelva a intentarlo dentro de una hora o pida un enlace propio a la persona que le invitó",
        "请一小时后再试，或向邀请您的人索取专属链接",
    ),
    # What the server refuses
    "This page cannot do that": (
        "Das kann diese Seite nicht",
        "Cette page ne peut pas faire cela",
        "Esta página no puede hacer eso",
        "此页面无法执行该操作",
    ),
    "There is no vote to undo": (
        "Es gibt keine Stimme zum Zurücknehmen",
        "Il n’y a aucun vote à annuler",
        "No hay ningún voto que deshacer",
        "没有可以撤销的投票",
    ),
    "The votes have been counted, so this one can no longer be undone": (
        "Die Stimmen wurden ausgezählt, daher lässt sich diese nicht mehr zurücknehmen",
        "Les votes ont été comptés : celui-ci ne peut plus être annulé",
        "Los votos ya se han contado, por lo que este no se puede deshacer",
        "投票已被统计，因此无法再撤销这一票",
    ),
    "A guess must name a side": (
        "Eine Vermutung muss eine Antwort nennen",
        "Il faut désigner une réponse",
        "Hay que indicar una respuesta",
        "猜测时必须选择一方",
    ),
    "Vote before you guess": (
        "Stimmen Sie zuerst ab",
        "Votez d’abord",
        "Vote primero",
        "请先投票再猜测",
    ),
    "You have already guessed": (
        "Sie haben diese Frage bereits beantwortet",
        "Vous avez déjà répondu à cette question",
        "Ya ha respondido a esta pregunta",
        "您已经猜过了",
    ),
    "Please vote on the current answers first": (
        "Bitte stimmen Sie zuerst über die aktuellen Antworten ab",
        "Veuillez d’abord voter sur les réponses affichées",
        "Vote primero sobre las respuestas actuales",
        "请先对当前的回答投票",
    ),
    "This trial does not belong to a live test": (
        "Dieser Vergleich gehört zu keinem Live-Test",
        "Cette comparaison n’appartient pas à un test en direct",
        "Esta comparación no pertenece a una prueba en vivo",
        "这一组不属于实时测试",
    ),
    "This trial is not yours; nothing was recorded": (
        "Dieser Vergleich gehört nicht Ihnen; es wurde nichts gespeichert",
        "Cette comparaison n’est pas la vôtre ; rien n’a été enregistré",
        "Esta comparación no es suya; no se ha guardado nada",
        "这一组不属于您；未保存任何内容",
    ),
    "reload the page": (
        "Laden Sie die Seite neu",
        "Rechargez la page",
        "Vuelva a cargar la página",
        "请重新加载页面",
    ),
    "This choice was not offered": (
        "Diese Auswahl stand nicht zur Verfügung",
        "Ce choix n’était pas proposé",
        "Esta opción no estaba disponible",
        "没有提供此选项",
    ),
    "Unknown ratings": (
        "Unbekannte Bewertungen",
        "Évaluations inconnues",
        "Valoraciones desconocidas",
        "未知的评价项",
    ),
    "The comment is too long": (
        "Der Kommentar ist zu lang",
        "Le commentaire est trop long",
        "El comentario es demasiado largo",
        "评论过长",
    ),
    "You have already voted on this; your first vote counts": (
        "Sie haben hierüber bereits abgestimmt; Ihre erste Stimme zählt",
        "Vous avez déjà voté ici ; votre premier vote compte",
        "Ya ha votado aquí; cuenta su primer voto",
        "您已对此投过票，以第一次投票为准",
    ),
    "undo it to vote again": (
        "Nehmen Sie sie zurück, um erneut abzustimmen",
        "Annulez-le pour voter de nouveau",
        "Deshágalo para volver a votar",
        "撤销后可重新投票",
    ),
    "The models are not running right now": (
        "Die Modelle laufen gerade nicht",
        "Les modèles ne fonctionnent pas en ce moment",
        "Los modelos no están en funcionamiento ahora",
        "模型目前未运行",
    ),
    "come back later, or ask your host": (
        "Kommen Sie später wieder, oder fragen Sie die einladende Person",
        "Revenez plus tard, ou demandez à la personne qui vous a invité",
        "Vuelva más tarde o pregunte a la persona que le invitó",
        "请稍后再来，或询问邀请您的人",
    ),
    "The questions in this test are already set": (
        "Die Fragen in diesem Test stehen bereits fest",
        "Les questions de ce test sont déjà fixées",
        "Las preguntas de esta prueba ya están fijadas",
        "此测试的问题已经确定",
    ),
    "vote on the answers you see": (
        "Stimmen Sie über die angezeigten Antworten ab",
        "Votez sur les réponses affichées",
        "Vote sobre las respuestas que ve",
        "请对显示的回答投票",
    ),
    "The question is empty": ("Die Frage ist leer", "La question est vide", "La pregunta está vacía", "问题为空"),
    "write one, then press Ask both": (
        "Schreiben Sie eine, und drücken Sie dann „Beide fragen“",
        "Écrivez-en une, puis appuyez sur « Interroger les deux »",
        "Escriba una y pulse «Preguntar a ambos»",
        "请写一个问题，然后按“向两者提问”",
    ),
    "write one first": (
        "Schreiben Sie zuerst eine",
        "Écrivez-en d’abord une",
        "Escriba primero una",
        "请先写一个问题",
    ),
    "The question is too long": (
        "Die Frage ist zu lang",
        "La question est trop longue",
        "La pregunta es demasiado larga",
        "问题过长",
    ),
    "shorten it to 4000 characters": (
        "Kürzen Sie sie auf 4000 Zeichen",
        "Raccourcissez-la à 4000 caractères",
        "Acórtela a 4000 caracteres",
        "请缩短到 4000 个字符以内",
    ),
    "The question is longer than the models can read": (
        "Die Frage ist länger, als die Modelle lesen können",
        "La question est plus longue que ce que les modèles peuvent lire",
        "La pregunta es más larga de lo que los modelos pueden leer",
        "问题超出了模型可读取的长度",
    ),
    "a shorter one": (
        "Versuchen Sie es mit einer kürzeren",
        "Essayez-en une plus courte",
        "Pruebe con una más corta",
        "请换一个更短的问题",
    ),
    "Raters cannot write questions in this test": (
        "In diesem Test können Sie keine Fragen stellen",
        "Ce test ne permet pas de poser des questions",
        "En esta prueba no se pueden hacer preguntas",
        "此测试中不能提问",
    ),
    "Other questions are being answered right now": (
        "Gerade werden andere Fragen beantwortet",
        "D’autres questions sont en cours de traitement",
        "En este momento se están respondiendo otras preguntas",
        "正在回答其他问题",
    ),
    "ask again in a moment": (
        "Fragen Sie gleich noch einmal",
        "Reposez votre question dans un instant",
        "Vuelva a preguntar en un momento",
        "请稍后再问",
    ),
    "This could not be answered; nothing was recorded": (
        "Das konnte nicht beantwortet werden; es wurde nichts gespeichert",
        "Impossible de répondre ; rien n’a été enregistré",
        "No se ha podido responder; no se ha guardado nada",
        "无法回答；未保存任何内容",
    ),
    "tell your host": (
        "Sagen Sie der einladenden Person Bescheid",
        "Prévenez la personne qui vous a invité",
        "Avise a la persona que le invitó",
        "请告知邀请您的人",
    ),
    # What fails on the server
    "Something went wrong. Your earlier votes are safe": (
        "Etwas ist schiefgegangen. Ihre bisherigen Stimmen sind sicher",
        "Un problème est survenu. Vos votes précédents sont conservés",
        "Algo ha fallado. Sus votos anteriores están a salvo",
        "出错了。您之前的投票都已保存",
    ),
    "reload this page": (
        "Laden Sie diese Seite neu",
        "Rechargez cette page",
        "Vuelva a cargar esta página",
        "请重新加载此页面",
    ),
    "The blind test database was moved or deleted": (
        "Die Datenbank des Tests wurde verschoben oder gelöscht",
        "La base de données du test a été déplacée ou supprimée",
        "La base de datos de la prueba se ha movido o borrado",
        "测试数据库已被移动或删除",
    ),
    "tell whoever runs this test": (
        "Sagen Sie der Person Bescheid, die diesen Test betreibt",
        "Prévenez la personne responsable de ce test",
        "Avise a quien lleva esta prueba",
        "请告知此测试的负责人",
    ),
    "The disk with the blind tests is full": (
        "Der Datenträger des Tests ist voll",
        "Le disque du test est plein",
        "El disco de la prueba está lleno",
        "测试所用的磁盘已满",
    ),
    "tell the owner of this test. Once space is free, continue where you left off": (
        "Sagen Sie der Person Bescheid, die diesen Test betreibt. Sobald Platz frei ist, machen Sie dort weiter, wo "
        "Sie aufgehört haben",
        "Prévenez la personne responsable de ce test. Dès qu’il y aura de la place, reprenez là où vous en étiez",
        "Avise a quien lleva esta prueba. Cuando haya espacio, continúe donde lo dejó",
        "请告知此测试的负责人。磁盘有空间后，您可以从中断处继续",
    ),
    "The blind test database is damaged": (
        "Die Datenbank des Tests ist beschädigt",
        "La base de données du test est endommagée",
        "La base de datos de la prueba está dañada",
        "测试数据库已损坏",
    ),
    "restore it from a backup, or move it away: on the next start, the app creates an empty one": (
        "Sagen Sie der Person Bescheid, die diesen Test betreibt: Sie muss eine Sicherung einspielen",
        "Prévenez la personne responsable de ce test : elle doit restaurer une sauvegarde",
        "Avise a quien lleva esta prueba: debe restaurar una copia de seguridad",
        "请告知此测试的负责人：需要从备份恢复",
    ),
    "The blind test database is gone": (
        "Die Datenbank des Tests fehlt",
        "La base de données du test a disparu",
        "La base de datos de la prueba ha desaparecido",
        "测试数据库不存在",
    ),
    "put the file back, or restart the app, which creates an empty one": (
        "Sagen Sie der Person Bescheid, die diesen Test betreibt: Die Datei muss zurück an ihren Platz",
        "Prévenez la personne responsable de ce test : le fichier doit être remis en place",
        "Avise a quien lleva esta prueba: hay que volver a poner el archivo en su sitio",
        "请告知此测试的负责人：需要把文件放回原处",
    ),
    "The blind test database does not respond": (
        "Die Datenbank des Tests antwortet nicht",
        "La base de données du test ne répond pas",
        "La base de datos de la prueba no responde",
        "测试数据库没有响应",
    ),
    "try again in a moment": (
        "Versuchen Sie es gleich noch einmal",
        "Réessayez dans un instant",
        "Vuelva a intentarlo en un momento",
        "请稍后重试",
    ),
    "; nothing was changed": (
        "; es wurde nichts geändert",
        " ; rien n’a été modifié",
        "; no se ha cambiado nada",
        "；未作任何更改",
    ),
    "; this may or may not have been stored": (
        "; ob dies gespeichert wurde, ist unklar",
        " ; on ne sait pas si ceci a été enregistré",
        "; no se sabe si esto se ha guardado",
        "；尚不清楚是否已保存",
    ),
    "reload the page to see what is stored": (
        "Laden Sie die Seite neu, um zu sehen, was gespeichert ist",
        "Rechargez la page pour voir ce qui est enregistré",
        "Vuelva a cargar la página para ver qué se ha guardado",
        "请重新加载页面，查看保存了什么",
    ),
}
_ALL = OF_THE_SERVER | OF_THE_BROWSER
# What store.py adds to the message of a failure.
_ENDINGS = (NOTHING_CHANGED, "; this may or may not have been stored")


@dataclass(frozen=True)
class Texts:
    """The texts of one language. An unknown `language` means English."""

    language: str = "en"

    def __call__(self, text: str, **values: object) -> str:
        """`text`, one of the keys, in this language and with `values` in its placeholders; unknown text as it is."""
        ending = next((end for end in _ENDINGS if text.endswith(end) and text != end), "")
        row = _ALL.get(text.removesuffix(ending))
        if row is None or self.language not in _OTHERS:
            return text.format(**values) if values else text
        words = row[_OTHERS.index(self.language)]
        return (words.format(**values) if values else words) + (self(ending) if ending else "")

    def sentence(self, text: str, **values: object) -> str:
        """Like a call, with the first letter in upper case and a period at its end."""
        words = self(text, **values).strip()
        words = words[:1].upper() + words[1:]
        if self.language == "zh-Hans":
            return words if words.endswith(("。", "？", "！", "：", ".")) else f"{words}。"
        return sentence(words)

    def together(self, *sentences: str) -> str:
        """`sentences` that are not empty, one after the other."""
        return ("" if self.language == "zh-Hans" else " ").join(words for words in sentences if words)


def for_the_browser() -> str:
    """What the page's script knows, as JSON: {"names": {tag: name}, "texts": {tag: {English: text}}}."""
    texts = {tag: {text: row[at] for text, row in OF_THE_BROWSER.items()} for at, tag in enumerate(_OTHERS)}
    return json.dumps({"names": LANGUAGES, "texts": texts}, ensure_ascii=False)
